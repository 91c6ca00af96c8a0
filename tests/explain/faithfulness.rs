//! Deletion and insertion on a model of which it is known what it hears.

use crate::random_model::{self, SMALL, Sizes, numbers, tokenizer};
use safetensors::tensor::Dtype;
use sonograd::engine::native::NativeExecutor;
use sonograd::explain::{ExplainOptions, Maps, Method, Site, Subject, explain};
use sonograd::features::Features;
use sonograd::generate::{GenerationOptions, Wanted, generate};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::study::faithfulness::{Curves, Rewriting, STEPS, Written, area};
use sonograd::study::map_name::MapName;
use sonograd::study::record::Comparison;
use sonograd::study::watch::Rewritten;
use sonograd::tokenizer::Tokenizer;

const SIZES: Sizes = Sizes {
    mel_bins: 20,
    vocabulary: 24,
    ..SMALL
};

const FRAMES: usize = 60;

/// The one bin that the model hears.
const HEARD: usize = 13;

fn rates(curve: &[Written]) -> Vec<f64> {
    curve
        .iter()
        .map(|own| own.words.rate().unwrap().min(100.0))
        .collect()
}

#[test]
fn the_map_of_what_a_model_hears_is_more_faithful_than_a_random_one() {
    let folder = tempfile::tempdir().unwrap();
    random_model::write(folder.path(), SIZES);
    let mut tensors = random_model::tensors(SIZES);
    let first = tensors
        .iter_mut()
        .find(|tensor| tensor.name.ends_with("conv_layers.0.weight"));
    let first = first.unwrap();
    // (channels, bins, kernel): all other bins are not heard.
    let kernel = first.shape[2];
    for (index, value) in first.data.iter_mut().enumerate() {
        if index / kernel % SIZES.mel_bins != HEARD {
            *value = 0.0;
        }
    }
    random_model::write_tensors(
        &folder.path().join("model.safetensors"),
        &tensors,
        Dtype::F32,
    );
    let model = Model::load(ModelFiles::folder(folder.path()).unwrap()).unwrap();
    let text = tokenizer(SIZES.vocabulary);
    let tokenizer = Tokenizer::from_bytes("tokenizer.json", text.as_bytes()).unwrap();
    let data = numbers(5, FRAMES * SIZES.mel_bins)
        .iter()
        .map(|x| 3.0 * x)
        .collect();
    let features = Features::new(data, FRAMES, SIZES.mel_bins).unwrap();
    let options = GenerationOptions::new(&model, Some(&tokenizer), &Wanted::default());
    let mut options = options.unwrap();
    options.max_new_tokens = Some(20);
    options.no_repeat_ngram_size = 2;
    let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
    let generated = generate(&mut executor, &model, &features, &options).unwrap();
    let subject = Subject {
        file: "planted".into(),
        seconds: 0.6,
        fingerprint: None,
        warnings: &[],
        features: &features,
        encoded: None,
        prompt: &generated.prompt,
        tokens: &generated.tokens,
    };
    let explained = explain(
        &mut executor,
        &model,
        &tokenizer,
        &subject,
        &{
            let mut options = ExplainOptions::default();
            options.methods = vec![Method::Attention, Method::Gradient];
            options
        },
        &mut |_| true,
    );
    let explained = explained.unwrap();
    // The oracle takes the place of the gradient at the input.
    let gradient = explained.get(Method::Gradient, Site::Input).unwrap();
    let gradient = gradient.data().to_vec();
    let values = explained.iter().map(|map| {
        let mut values = map.data().to_vec();
        if (map.method(), map.site()) == (Method::Gradient, Site::Input) {
            for (index, value) in values.iter_mut().enumerate() {
                *value = f32::from(u8::from(index % SIZES.mel_bins == HEARD));
            }
        }
        values
    });
    let (explanation, heard) = (
        explained.explanation().clone(),
        explained.features().to_vec(),
    );
    let explained = Maps::new(explanation, heard, values.collect()).unwrap();
    assert!(
        gradient
            .iter()
            .enumerate()
            .all(|(i, x)| (i % SIZES.mel_bins == HEARD) || *x == 0.0),
        "what is not heard has no gradient"
    );
    let rewriting = Rewriting {
        model: &model,
        tokenizer: &tokenizer,
        features: &features,
        options: &options,
        reference: &explained.explanation().text,
        clean: &explained.explanation().text,
        seed: 1,
    };
    let by = Comparison::default();
    let mut told = Vec::new();
    let mut progress = |state: Rewritten| {
        told.push(state);
        true
    };
    let curves = rewriting
        .curves(&mut executor, &explained, &by, &mut progress)
        .unwrap();
    let all = 4 * 2 * (STEPS - 2);
    let wanted = (1..=all).map(|done| Rewritten { done, all });
    assert!(told.into_iter().eq(wanted));
    // Stopped in the second map's curves, the first map's are whole.
    let first = rewriting.curves(&mut executor, &explained, &by, &mut |state| {
        state.done < all / 4 + 3
    });
    assert_eq!(first.unwrap(), curves.clone().into_iter().take(1).collect());
    let names: Vec<String> = curves.keys().map(MapName::to_string).collect();
    assert_eq!(
        names,
        ["attention", "gradient.encoder", "gradient.input", "random"]
    );
    for Curves {
        deletion,
        insertion,
        size,
    } in curves.values()
    {
        assert_eq!(
            (deletion.len(), insertion.len(), size.len()),
            (STEPS, STEPS, STEPS)
        );
        let (deleted, inserted) = (rates(deletion), rates(insertion));
        // Nothing deleted is the clean text; everything is the same for all.
        assert_eq!((deleted[0], inserted[STEPS - 1]), (0.0, 0.0));
        assert_eq!(deletion[STEPS - 1], insertion[0]);
        assert_eq!(
            deletion[STEPS - 1],
            curves[&MapName::Random].deletion[STEPS - 1]
        );
    }
    let oracle = MapName::At(Method::Gradient, Site::Input);
    let areas = |name: MapName| {
        let own = &curves[&name];
        (area(&rates(&own.deletion)), area(&rates(&own.insertion)))
    };
    let (best, random) = (areas(oracle), areas(MapName::Random));
    println!("oracle {best:?}, random {random:?}");
    // A twentieth of the features is all that is heard.
    assert!(best.0 > random.0 && best.1 < random.1);
    let own = rates(&curves[&oracle].deletion);
    assert!(
        own[1..].iter().all(|&rate| rate == own[STEPS - 1]),
        "{own:?}"
    );
    assert!(own[1] > 0.0);
    assert!(area(&curves[&oracle].size) < area(&curves[&MapName::Random].size));
}
