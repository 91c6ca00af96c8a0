//! Whole models, from sounds to tokens, against other executors and other people's code.

/// Models with random weights and sizes of one's choice.
#[path = "../shared/random_model.rs"]
mod random_model;

/// A Whisper folder with a vocabulary.
#[path = "../shared/whisper_folder.rs"]
mod whisper_folder;

/// Writers of the forms in which people have weights.
#[path = "../shared/forms.rs"]
mod form_writers;

/// Compressed sounds against the WAV they were made from.
mod audio_formats;
/// Finite differences, and executors against each other, at awkward sizes.
mod awkward_sizes;
/// What a program that uses the library learns of an error.
mod errors;
/// Everything that is asked of a model, on a GPU and natively.
mod executors_agree;
/// Prompts and configurations of FastConformers.
mod fastconformers;
/// Folders as people have them: what stands in which file.
mod folders;
/// Weights in the forms in which people have them.
mod forms;
/// Features and segments against transformers, torchaudio, scikit-image.
mod front_end;
/// Generated tokens against transformers'.
mod generation;
/// What a folder's files ask generation for, against transformers.
mod generation_settings;
/// Waveforms, rotary positions and configurations of Moonshine.
mod moonshine;
/// Opus among other streams, of many channels, in packets that are none.
mod opus_streams;
/// Sounds whose samples are numbers, in every container and encoding.
mod pcm_sounds;
/// Recordings that are cut, against transformers.
mod pieces;
/// Real models on human speech against transformers.
mod real;
/// Generated tokens of small models against transformers'.
mod small_cases;
/// Reference values made by other code.
mod validate;
/// Weights chosen by role, and drawn, as names once chose and drew them.
mod weight_roles;
/// Models that hear windows of a fixed length.
mod windows;
