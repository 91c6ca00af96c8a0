//! The front door: one type for model, front end, tokenizer and device.

use std::fs;

use crate::random_model::tone;
use crate::whisper_folder::whisper_folder;
use sonograd::explain::alignment::Source;
use sonograd::explain::methods::spes::SpesMade;
use sonograd::explain::spes::Stop;
use sonograd::features::Features;
use sonograd::{
    ErrorKind, ExplainOptions, Heard, Input, Listener, Maps, Method, Result, Site, Sound, Wanted,
};

const SOUND: &str = "tests/fixtures/front_end/utterance.wav";

fn listener() -> Listener {
    Listener::builder().device("cpu").open().unwrap()
}

fn sound() -> Sound {
    Sound::read(SOUND).unwrap()
}

/// Few masks, for whatever takes any.
fn few_masks() -> ExplainOptions {
    let mut options = ExplainOptions::default();
    options.spes.stop = Stop::Masks(120);
    options.spes.segments = vec![50];
    options
}

fn refused<T>(result: Result<T>, kind: ErrorKind, words: &str) {
    let Err(error) = result else {
        panic!("{words}: not refused");
    };
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_listener_can_move_to_a_thread_and_each_thread_hears_the_same() {
    fn send<T: Send>(_: &T) {}
    let first = listener();
    send(&first);
    let listen = |mut listener: Listener| {
        let heard = listener.transcribe(&sound()).unwrap();
        let maps = listener.explain(&sound(), &heard).run().unwrap();
        (heard, maps)
    };
    let threads = [first, listener()].map(|own| std::thread::spawn(move || listen(own)));
    let [one, other] = threads.map(|thread| thread.join().unwrap());
    assert_eq!(one, other);
    assert!(!one.0.text().is_empty());
}

#[test]
fn words_are_those_of_the_text_and_point_at_their_tokens() {
    let mut listener = listener();
    let heard = listener.transcribe(&sound()).unwrap();
    let words: Vec<&str> = heard.words().iter().map(|word| &*word.text).collect();
    assert_eq!(words.join(" "), heard.text());
    let count = heard.words().last().unwrap().tokens.end;
    assert_eq!(count, heard.tokens().len());
    assert_eq!(heard.segments().len(), 1);
    assert!(heard.score().unwrap() < 0.0 && heard.warnings().is_empty());
    let aligned = listener.align(&sound()).run().unwrap();
    let times: Vec<&str> = aligned.words().iter().map(|word| &*word.text).collect();
    assert_eq!(times, words);
}

#[test]
fn a_text_that_is_given_is_explained_like_one_that_was_heard() {
    let mut listener = listener();
    let heard = listener.transcribe(&sound()).unwrap();
    let given = listener.given(&sound(), heard.text()).unwrap();
    assert_eq!(given.tokens(), heard.tokens());
    assert_eq!(given.words(), heard.words());
    let [a, b] = [&heard, &given].map(|said| listener.explain(&sound(), said).run().unwrap());
    assert_eq!(a, b);
    refused(
        listener.given(&sound(), " \n"),
        ErrorKind::Input,
        "no tokens",
    );
}

#[test]
fn features_that_were_made_elsewhere_are_heard_as_they_are() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("whisper");
    whisper_folder(&folder);
    let short = Sound::new(&tone(9_000), 16_000).unwrap();
    let whisper = || Listener::builder().model(folder.to_str().unwrap());
    for (builder, sound) in [(Listener::builder(), sound()), (whisper(), short)] {
        let mut listener = builder.device("cpu").open().unwrap();
        let made = listener.features(&sound).unwrap().clone();
        let input = Input::from(Features {
            power: Vec::new(),
            ..made.clone()
        });
        let [own, given] = [Input::from(&sound), input].map(|input| {
            let heard = listener.transcribe(&input).unwrap();
            let maps = listener.explain(&input, &heard).run().unwrap();
            let aligned = listener.align(&input).run().unwrap();
            let texts = [heard.text(), aligned.text()].map(str::to_owned);
            (texts, maps)
        });
        assert_eq!(own.0, given.0);
        for (one, other) in own.1.iter().zip(given.1.iter()) {
            assert_eq!(one.data(), other.data(), "{}", one.name());
        }
        assert!(own.1.sound().is_some() && given.1.sound().is_none());
        let audio = &given.1.explanation().audio;
        assert_eq!((&*audio.file, audio.fingerprint), ("features", None));
        let seconds = made.sound_frames as f64 / 100.0;
        assert!((audio.seconds - seconds).abs() < 1e-9);
        // A folder of them is opened again.
        let saved = place.path().join("saved");
        given.1.save(&saved).unwrap();
        assert_eq!(Maps::open(&saved).unwrap(), given.1);

        let broken = |change: &dyn Fn(&mut Features)| {
            let mut features = made.clone();
            change(&mut features);
            Input::from(features)
        };
        for (input, kind, words) in [
            (
                broken(&|own| own.data[own.bins + 3] = f32::NAN),
                ErrorKind::Input,
                "NaN at frame 1, bin 3",
            ),
            (
                broken(&|own| own.sound_frames = 0),
                ErrorKind::Input,
                "none of the features' frames is sound",
            ),
            (
                broken(&|own| (own.bins, own.frames) = (own.bins / 2, own.frames * 2)),
                ErrorKind::Input,
                "have 80 bins here, not 40",
            ),
            (
                broken(&|own| own.frames += 1),
                ErrorKind::Shape,
                "cannot have the shape",
            ),
        ] {
            refused(listener.transcribe(&input), kind, words);
            refused(listener.check_explainable(&input), kind, words);
        }
    }
}

#[test]
fn maps_are_looked_up_by_method_and_site_and_know_their_axes() {
    let mut listener = listener();
    let heard = listener.transcribe(&sound()).unwrap();
    let methods = [
        Method::Attention,
        Method::Gradient,
        Method::Gradient,
        Method::Spes,
    ];
    let request = listener.explain(&sound(), &heard).options(few_masks());
    let sites = [Site::Input, Site::Encoder, Site::Tokens];
    let maps = request.methods(methods).at(sites).run().unwrap();
    let names: Vec<&str> = maps.iter().map(|map| map.name()).collect();
    let all = "attention gradient.input gradient.encoder spes.input spes.encoder spes.tokens";
    assert_eq!(names.join(" "), all);
    for map in maps.iter() {
        let axes = map.axes();
        let lengths: Vec<usize> = axes.iter().map(|axis| axis.length).collect();
        assert_eq!(lengths, map.shape(), "{}", map.name());
        assert_eq!(map.data().len(), lengths.iter().product::<usize>());
        let time = axes.iter().find(|axis| axis.name == "time");
        if let Some(time) = time {
            let seconds = time.step * time.length as f64;
            assert_eq!(time.unit, Some("s"));
            assert!(
                (seconds - sound().seconds()).abs() < 0.1,
                "{}: {seconds}",
                map.name()
            );
        }
        let found = maps.get(map.method(), map.site()).unwrap();
        assert_eq!(found.name(), map.name());
    }
    let map = maps.get(Method::Gradient, Site::Encoder).unwrap();
    let [tokens, frames] = *map.shape() else {
        panic!("{:?}", map.shape());
    };
    let rows: Vec<&[f32]> = (0..tokens).map(|token| map.row(token).unwrap()).collect();
    assert!(rows.iter().all(|row| row.len() == frames) && rows.concat() == map.data());
    let attention = maps.get(Method::Attention, Site::Decoder).unwrap();
    let sum: f32 = attention.head(1, 2).unwrap()[..frames].iter().sum();
    assert!(
        (sum - 1.0).abs() < 1e-4,
        "attention of a token sums to {sum}"
    );
    refused(map.row(tokens), ErrorKind::Input, "count from 0");
    refused(attention.row(0), ErrorKind::Input, "rows by layer and head");
    refused(attention.head(0, 4), ErrorKind::Input, "no head 0.4");
    refused(attention.head(usize::MAX, 0), ErrorKind::Input, "no head");
    refused(map.head(0, 0), ErrorKind::Input, "has no heads");
    let missing = maps.get(Method::SmoothGrad, Site::Input);
    refused(
        missing,
        ErrorKind::Input,
        "smoothgrad.input; there are attention, gradient.input",
    );
}

#[test]
fn a_folder_that_is_opened_again_holds_equal_maps() {
    let mut listener = listener();
    let heard = listener.transcribe(&sound()).unwrap();
    let request = listener.explain(&sound(), &heard).options(few_masks());
    let maps = request.methods(Method::ALL).at(Site::Input).run().unwrap();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("explained");
    maps.save(&folder).unwrap();
    let opened = Maps::open(&folder).unwrap();
    assert_eq!(opened, maps);
    // A method's options come back as they were given.
    let made: SpesMade = opened
        .get(Method::Spes, Site::Input)
        .unwrap()
        .made()
        .unwrap();
    let options = made.options();
    assert_eq!(options.stop, few_masks().spes.stop);
    assert_eq!(options.segments, few_masks().spes.segments);

    let file = |name: &str| folder.join(name);
    let text = fs::read_to_string(file("explanation.json")).unwrap();
    for (old, new, words) in [
        ("\"version\": 1", "\"version\": 7", "has version 7"),
        (
            "sonograd-explanation",
            "other",
            "is no sonograd-explanation",
        ),
        ("\"method\": \"gradient\"", "\"method\": \"lime\"", "lime"),
        (
            "\"method\": \"gradient\"",
            "\"method\": \"smoothgrad\"",
            "gradient.input is no name",
        ),
        ("\"index\": 1,", "\"index\": 999,", "not counted from 0"),
        (
            "\"tokens\": [\n        0",
            "\"tokens\": [\n        999",
            "do not follow each other",
        ),
        ("\"mel_bins\": 80", "\"mel_bins\": 81", "81"),
    ] {
        assert!(text.contains(old), "{old}");
        fs::write(file("explanation.json"), text.replacen(old, new, 1)).unwrap();
        refused(Maps::open(&folder), ErrorKind::File, words);
    }
    fs::write(file("explanation.json"), &text).unwrap();
    fs::write(file("maps.safetensors"), "cut").unwrap();
    refused(Maps::open(&folder), ErrorKind::File, "maps.safetensors");
    refused(
        Maps::open(place.path()),
        ErrorKind::File,
        "explanation.json",
    );
}

#[test]
fn long_work_can_be_stopped() {
    let mut listener = listener();
    let heard = listener.transcribe(&sound()).unwrap();
    let mut options = few_masks();
    options.spes.stop = Stop::Masks(6000);
    options.methods = vec![Method::Spes];
    options.sites = vec![Site::Encoder];
    let mut told = 0;
    let request = listener.explain(&sound(), &heard).options(options);
    let request = request.watch(|progress| {
        assert_eq!((progress.site, progress.most), (Site::Encoder, 6000));
        told += 1;
        told < 3
    });
    let maps = request.run().unwrap();
    let map = maps.get(Method::Spes, Site::Encoder).unwrap();
    let made: SpesMade = map.made().unwrap();
    assert!(made.interrupted && made.masks < 6000, "{made:?}");
    assert_eq!(told, 3);

    let mut options = ExplainOptions::default();
    options.methods = vec![Method::SmoothGrad];
    options.sites = vec![Site::Input];
    // So little that variants go one by one.
    options.memory = 1 << 20;
    let request = listener.explain(&sound(), &heard).options(options);
    refused(
        request.watch(|_| false).run(),
        ErrorKind::Stopped,
        "stopped",
    );
    // It can go on afterwards.
    listener.explain(&sound(), &heard).run().unwrap();
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let mut listener = listener();
    let other = Listener::builder()
        .model("weights/multi-task-small")
        .device("cpu");
    let foreign: Heard = other.open().unwrap().transcribe(&sound()).unwrap();
    let request = listener.explain(&sound(), &foreign);
    refused(
        request.run(),
        ErrorKind::Input,
        "another model heard this text",
    );

    let heard = listener.transcribe(&sound()).unwrap();
    let request = listener.explain(&sound(), &heard).methods([]);
    refused(request.run(), ErrorKind::Input, "no method");
    let request = listener.explain(&sound(), &heard).at(Site::Tokens);
    refused(request.run(), ErrorKind::Input, "no map at tokens");
    let mut options = ExplainOptions::default();
    options.methods = vec![Method::IntegratedGradients];
    options.integrated_gradients.steps = 0;
    let request = listener.explain(&sound(), &heard).options(options);
    refused(request.run(), ErrorKind::Input, "steps is 0");

    for change in [
        (|own| own.integrated_gradients.steps = 1 << 40) as fn(&mut ExplainOptions),
        |own| own.smoothgrad.samples = usize::MAX,
        |own| own.spes.stop = Stop::Masks(1 << 40),
        |own| own.spes.batch = Some(usize::MAX),
    ] {
        let mut options = ExplainOptions::default();
        change(&mut options);
        let request = listener.explain(&sound(), &heard).options(options);
        refused(request.run(), ErrorKind::Input, "");
    }
    let request = listener.explain(&sound(), &heard);
    let request = request.methods([Method::Spes]).at(Vec::new());
    refused(
        request.run(),
        ErrorKind::Input,
        "no site; it has at input and encoder and tokens",
    );
    let source = Source::Map(Method::Spes, Site::Tokens);
    let request = listener.align(&sound()).by(source);
    refused(request.run(), ErrorKind::Input, "spes at tokens");

    let builder = Listener::builder().model("absent");
    refused(builder.open(), ErrorKind::File, "absent");
    let builder = Listener::builder().device("no such card").start_later();
    let mut unopened = builder.open().unwrap();
    assert!(unopened.device().is_none());
    refused(
        unopened.transcribe(&sound()),
        ErrorKind::Device,
        "no such card",
    );
    let mut wanted = Wanted::default();
    wanted.language = Some("it".into());
    let builder = Listener::builder().device("cpu").wanted(wanted);
    refused(builder.open(), ErrorKind::Input, "\"it\"");
    let fixture = Listener::builder()
        .model("tests/fixtures/conformer")
        .device("cpu");
    let mut mute = fixture.without_tokenizer().open().unwrap();
    refused(
        mute.transcribe(&sound()),
        ErrorKind::Input,
        "without a tokenizer",
    );
}

/// A sound that is to be explained is encoded once, and what comes of it is
/// the same to the last bit.
#[test]
fn what_is_foreseen_is_encoded_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("whisper");
    whisper_folder(&folder);
    let short = Sound::new(&tone(9_000), 16_000).unwrap();
    let whisper = || Listener::builder().model(folder.to_str().unwrap());
    let models = [(Listener::builder(), sound()), (whisper(), short)];
    for (builder, sound) in models {
        let mut listener = builder.device("cpu").open().unwrap();
        let flops = |listener: &Listener| listener.profile().unwrap().flops;
        let mut explained = |foreseen: Option<ExplainOptions>, sites: &[Site]| {
            listener.foresee(foreseen);
            let mut run = || {
                let before = flops(&listener);
                let heard = listener.transcribe(&sound).unwrap();
                let request = listener.explain(&sound, &heard).at(sites.to_vec());
                (request.run().unwrap(), flops(&listener) - before)
            };
            // What depends on weights alone is computed with the first.
            run();
            run()
        };
        let [input, encoder] = [Site::Input, Site::Encoder];
        let (want, twice) = explained(None, &[input, encoder]);
        let (got, once) = explained(Some(ExplainOptions::default()), &[input, encoder]);
        assert_eq!(got, want);
        // What was not foreseen to go back through the encoder is encoded anew.
        let mut at_encoder = ExplainOptions::default();
        at_encoder.sites = vec![encoder];
        let (got, unforeseen) = explained(Some(at_encoder.clone()), &[input, encoder]);
        assert_eq!(got, want);
        assert_eq!(unforeseen, twice);
        let (want, encoded_twice) = explained(None, &[encoder]);
        let (got, encoded_once) = explained(Some(at_encoder), &[encoder]);
        assert_eq!(got, want);
        assert!(once < twice && encoded_once < encoded_twice);
        // Nothing of a sound stays behind.
        let held = listener.parts().unwrap().executor.memory_bytes();
        listener.foresee(Some(ExplainOptions::default()));
        let heard = listener.transcribe(&sound).unwrap();
        assert!(listener.parts().unwrap().executor.memory_bytes() > held);
        listener.explain(&sound, &heard).run().unwrap();
        assert_eq!(listener.parts().unwrap().executor.memory_bytes(), held);
    }
}
