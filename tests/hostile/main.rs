//! Inputs that nobody means well with: every parser of ours, and every edge to
//! a library's, under seeded changes of whole files.
//!
//! An input is told by target, seed and number alone. `SONOGRAD_HOSTILE_TIMES`
//! multiplies how many there are, `SONOGRAD_HOSTILE_SEED` draws others, and
//! `SONOGRAD_HOSTILE_INPUT=FILE cargo test --test hostile TARGET` runs one alone.

/// Memory that a thread holds, as its allocator sees it.
mod allocator;
/// One target: its inputs, their judge, and what ends the test.
mod driver;
/// Seeded changes of bytes and of JSON.
mod mutations;

/// Writers of the forms in which people have weights.
#[path = "../shared/forms.rs"]
mod form_writers;
/// Models with random weights and sizes of one's choice.
#[path = "../shared/random_model.rs"]
mod random_model;
/// A Whisper folder with a vocabulary.
#[path = "../shared/whisper_folder.rs"]
mod whisper_folder;

/// Manifests, onsets, study logs, explanations, reference files.
mod documents;
/// config.json and what stands beside it.
mod settings;
/// Sounds in every container and encoding.
mod sounds;
/// Vocabularies in every form.
mod vocabularies;
/// safetensors, pickles, CTranslate2.
mod weights;

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;
