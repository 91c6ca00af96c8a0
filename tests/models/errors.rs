//! What a program that uses the library learns of an error: its kind, the file
//! it is about, and the error of another crate that lies beneath it. Nothing
//! of it is a panic.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;

use sonograd::audio;
use sonograd::features::Features;
use sonograd::model::Model;
use sonograd::model::files::ModelFiles;
use sonograd::{Error, ErrorKind};
use tempfile::TempDir;

/// A folder with the files of a fixture, one of them changed.
fn folder(changed: &str, bytes: &[u8]) -> TempDir {
    let place = TempDir::new().unwrap();
    for entry in fs::read_dir("tests/fixtures/generation/whisper").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        fs::copy(&path, place.path().join(name)).unwrap();
    }
    fs::write(place.path().join(changed), bytes).unwrap();
    place
}

fn load(place: &Path) -> Result<Model, Error> {
    Model::load(ModelFiles::folder(place).unwrap())
}

/// Checks that an error is about a file of that name, in one line.
fn about(error: &Error, name: &str) {
    assert_eq!(error.kind(), ErrorKind::File, "{error}");
    assert_eq!(error.path().unwrap().file_name().unwrap(), name, "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

/// The error beneath another, of a type that is known.
fn beneath<E: std::error::Error + 'static>(error: &Error) -> &E {
    let source = error.source().expect("something lies beneath");
    source.downcast_ref().expect("of that type")
}

#[test]
fn broken_files_of_a_model_say_what_lies_beneath() {
    for name in ["config.json", "generation_config.json"] {
        let place = folder(name, b"{\n");
        let error = load(place.path()).err().unwrap();
        about(&error, name);
        assert!(beneath::<serde_json::Error>(&error).is_eof());
    }
    let name = "model.safetensors";
    let whole = fs::read("tests/fixtures/generation/whisper/model.safetensors").unwrap();
    let place = folder(name, &whole[..whole.len() / 2]);
    let error = load(place.path()).err().unwrap();
    about(&error, name);
    beneath::<safetensors::SafeTensorError>(&error);

    let name = "preprocessor_config.json";
    let place = folder(name, b"[");
    let error = load(place.path()).unwrap().front_end().unwrap_err();
    about(&error, name);
    beneath::<serde_json::Error>(&error);

    let name = "tokenizer.json";
    let place = folder(name, b"{}");
    let error = load(place.path()).unwrap().tokenizer().unwrap_err();
    about(&error, name);
    assert!(error.source().is_some());
}

#[test]
fn sounds_that_cannot_be_read_say_what_lies_beneath() {
    let place = TempDir::new().unwrap();
    let error = audio::load(place.path().join("absent.wav")).unwrap_err();
    about(&error, "absent.wav");
    assert_eq!(beneath::<io::Error>(&error).kind(), io::ErrorKind::NotFound);
    let whole = fs::read("tests/fixtures/audio/speech.flac").unwrap();
    for (name, bytes) in [
        ("short.wav", &b"RIFF\0\0\0\0WAVEfmt "[..]),
        ("short.flac", &whole[..20]),
    ] {
        let path = place.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = audio::load(&path).unwrap_err();
        about(&error, name);
        assert!(error.source().is_some(), "{error}");
    }
}

/// Whatever the bytes of a sound's header say, there is a sound or an error.
#[test]
fn damaged_sounds_are_errors_or_sounds() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("sound");
    for entry in fs::read_dir("tests/fixtures/audio").unwrap() {
        let whole = fs::read(entry.unwrap().path()).unwrap();
        let begin = &whole[..whole.len().min(4000)];
        for at in 0..begin.len().min(128) {
            for value in [0, 1, 0x80, 0xff] {
                let mut bytes = begin.to_vec();
                bytes[at] = value;
                fs::write(&path, bytes).unwrap();
                if let Err(error) = audio::load(&path) {
                    about(&error, "sound");
                }
            }
        }
    }
}

#[test]
fn kinds_tell_errors_apart() {
    let model = load(Path::new("tests/fixtures/generation/whisper")).unwrap();
    let odd = Features::new(vec![0.0; 6], 2, 3).unwrap();
    let error = model.check_features(&odd).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Input, None));
    let mut odd = Features::new(vec![0.0; 6], 2, 3).unwrap();
    odd.sound_frames = 3;
    assert_eq!(
        model.check_features(&odd).unwrap_err().kind(),
        ErrorKind::Shape
    );
    let error = Features::new(vec![0.0; 5], 2, 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
}
