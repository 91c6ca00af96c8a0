//! The program as its users meet it: exit codes, messages, files.

/// What fields a JSON document has.
#[path = "../shared/json_fields.rs"]
mod json_fields;

/// Models with random weights and sizes of one's choice.
#[path = "../shared/random_model.rs"]
mod random_model;

/// A Whisper folder with a vocabulary.
#[path = "../shared/whisper_folder.rs"]
mod whisper_folder;

/// `sonograd align`: files that other programs read.
mod align;
/// `sonograd` and its subcommands: bad input, output folders, interruptions.
mod cli;
/// Full disks.
mod disk;
/// What is no file, no option, or no text for a terminal.
mod edges;
/// `sonograd heads`: its ranking against the study's, what it writes.
mod heads;
/// Models by name: a server that plays the hub, caches by other programs.
#[cfg(feature = "hub")]
mod hub;
/// Standard input, and what is said of odd sounds.
mod sounds;
/// What is written, and what is left as it is.
mod written;
