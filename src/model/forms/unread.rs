//! What is no model that can be read here, named for what it is, with the way
//! out.

use std::path::Path;

/// How the text begins that stands for a file which `git lfs` has not fetched.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Why the contents of a file are not what its name says; nothing where they
/// may be.
pub fn pointer(bytes: &[u8]) -> Option<&'static str> {
    bytes.starts_with(LFS).then_some(
        "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull` in the folder, \
         or with `hf download`",
    )
}

/// What a file is whose name is that of another form of model, and what to do.
pub fn file(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let ends = |end: &str| name.ends_with(end);
    if ends(".nemo") {
        Some(
            "is a NeMo archive, which is not read; NeMo's CTC and transducer models have no \
             cross-attention, of the others there are none here yet",
        )
    } else if name.starts_with("ggml") && ends(".bin") || ends(".gguf") {
        Some(
            "is of whisper.cpp (ggml, GGUF), which is not read; take the model as Hugging Face, \
             OpenAI (.pt) or CTranslate2 has it",
        )
    } else if ends(".onnx") {
        Some("is ONNX, which is not read; take the folder that it was made from")
    } else if ends(".tflite") || name == "openvino_encoder_model.xml" {
        Some(
            "is of TensorFlow Lite or OpenVINO, which is not read; take the folder that it was \
             made from",
        )
    } else if name == "tf_model.h5" {
        Some(
            "is of TensorFlow, which is not read; transformers 4 converts it: \
             from_pretrained(DIR, from_tf=True), then save_pretrained",
        )
    } else if name == "flax_model.msgpack" {
        Some(
            "is of Flax, which is not read; transformers 4 converts it: from_pretrained(DIR, \
             from_flax=True), then save_pretrained",
        )
    } else if name == "weights.npz" || name == "weights.safetensors" {
        Some("is of MLX, which is not read; take the folder that it was made from")
    } else if ends(".ckpt") {
        Some(
            "is a checkpoint of a training, which is not read; load it there and save the model \
             with save_pretrained",
        )
    } else {
        None
    }
}

/// The first file of a folder that is of another form of model, and what it
/// is.
pub fn in_folder(folder: &Path) -> Option<(std::path::PathBuf, &'static str)> {
    let entries = std::fs::read_dir(folder).ok()?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let what = file(&name.to_string_lossy())?;
        Some((folder.join(name), what))
    })
}

/// Language models that take sound in among their tokens, by what their names in
/// transformers 5.23 begin with.
const AUDIO_LANGUAGE_MODELS: [&str; 15] = [
    "AudioFlamingo3",
    "FunAsrNano",
    "Gemma3n",
    "GlmAsr",
    "GraniteSpeech",
    "KyutaiSpeechToText",
    "MossTranscribeDiarize",
    "MusicFlamingo",
    "Phi4Multimodal",
    "Qwen2Audio",
    "Qwen2_5Omni",
    "Qwen3ASR",
    "Qwen3Omni",
    "VibeVoiceAsr",
    "Voxtral",
];

/// What a model of an architecture is that no family here has, by the name.
pub fn architecture(name: &str) -> Option<&'static str> {
    let ctc = "; it is a CTC model: an encoder that names a letter for each frame, without a \
               decoder whose cross-attention could be looked at; take an encoder-decoder";
    let transducer = "; it is a transducer, whose decoder never attends to the sound; take an \
                      encoder-decoder";
    let language_model = "; it is a language model that takes the sound in among its tokens, \
                          without cross-attention that could be looked at; take an encoder-decoder";
    let classifier = "; it names what a sound is and writes no text";
    let ends = |end: &&str| name.ends_with(*end);
    if name.ends_with("CTC") {
        Some(ctc)
    } else if ["RNNT", "TDT", "Transducer"].iter().any(ends) {
        Some(transducer)
    } else if ["Classification", "XVector"].iter().any(ends) {
        Some(classifier)
    } else if AUDIO_LANGUAGE_MODELS
        .iter()
        .any(|own| name.starts_with(own))
    {
        Some(language_model)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_named() {
        for name in [
            "a.nemo",
            "ggml-base.en.bin",
            "m.GGUF",
            "encoder_model.onnx",
            "tf_model.h5",
            "flax_model.msgpack",
            "weights.npz",
            "last.ckpt",
        ] {
            assert!(file(name).is_some(), "{name}");
        }
        for name in [
            "model.safetensors",
            "pytorch_model.bin",
            "model.bin",
            "tiny.pt",
        ] {
            assert_eq!(file(name), None, "{name}");
        }
        assert!(architecture("Wav2Vec2ForCTC").unwrap().contains("CTC"));
        assert!(
            architecture("ParakeetForTDT")
                .unwrap()
                .contains("transducer")
        );
        for name in ["VoxtralForConditionalGeneration", "Qwen2_5OmniModel"] {
            assert!(architecture(name).unwrap().contains("language model"));
        }
        assert_eq!(architecture("MoonshineForConditionalGeneration"), None);
        assert!(pointer(b"version https://git-lfs.github.com/spec/v1\noid").is_some());
        assert_eq!(pointer(b"{}"), None);
    }
}
