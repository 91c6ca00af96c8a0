//! The way of one utterance through the shipped model: front end, encoder and
//! greedy search, forward pass, and all tokens' gradients.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use sonograd::audio;
use sonograd::explain::Site;
use sonograd::explain::passes::{MapSpec, Utterance, forward_and_gradients};
use sonograd::explain::profile::MAPS;
use sonograd::generate::{GenerationOptions, Wanted, generate};
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::ops::Reduction;

const SAMPLE: &str = "tests/fixtures/front_end/utterance.wav";
const MEMORY: usize = 1 << 30;

fn utterance(criterion: &mut Criterion) {
    let model = Model::load(ModelFiles::default_model()).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let front_end = model.front_end().unwrap();
    let waveform = audio::load(SAMPLE).unwrap();
    let features = front_end.features(&waveform).unwrap();
    criterion.bench_function("front_end", |bencher| {
        bencher.iter(|| front_end.features(&waveform).unwrap());
    });
    let mut wanted = Wanted::default();
    wanted.beams = Some(1);
    let options = GenerationOptions::new(&model, Some(&tokenizer), &wanted).unwrap();
    let gradients = [Site::Input, Site::Encoder].map(|site| MapSpec {
        site,
        times_input: false,
        reduction: Reduction::L2,
    });
    for mut executor in common::executors(&model.weights) {
        let executor = executor.as_mut();
        let name = executor.name();
        let generated = generate(executor, &model, &features, &options).unwrap();
        let ids = [generated.prompt.as_slice(), &generated.tokens].concat();
        let ids = &ids[..generated.tokens.len()];
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        criterion.bench_function(&format!("greedy/{name}"), |bencher| {
            bencher.iter(|| generate(executor, &model, &features, &options).unwrap());
        });
        for (work, specs) in [("forward", &gradients[..0]), ("gradient", &gradients[..])] {
            criterion.bench_function(&format!("{work}/{name}"), |bencher| {
                bencher.iter(|| {
                    let labels = &generated.tokens;
                    let mark = executor.mark();
                    let utterance =
                        Utterance::upload(executor, &model, &features, ids, &positions, labels)
                            .unwrap();
                    let pass =
                        forward_and_gradients(executor, &model, &utterance, specs, MEMORY).unwrap();
                    let wanted = [pass.forward.log_probs];
                    executor.read(&wanted, MAPS).unwrap();
                    executor.unwind(mark);
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = utterance
}
criterion_main!(benches);
