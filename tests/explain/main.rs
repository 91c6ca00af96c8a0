//! Methods of explanation and alignment, and what is written about them.

/// A headless Chromium.
#[path = "../shared/browser.rs"]
mod browser;
/// Pages in it.
#[path = "../shared/page.rs"]
mod browser_page;

/// What fields a JSON document has.
#[path = "../shared/json_fields.rs"]
mod json_fields;

/// Models with random weights and sizes of one's choice.
#[path = "../shared/random_model.rs"]
mod random_model;

/// A Whisper folder as its users have it.
#[path = "../shared/whisper_folder.rs"]
mod whisper_folder;

/// A backend that fails when it is told to.
#[path = "../shared/faulty.rs"]
mod faulty;

/// Warping and filters against transformers'.
mod alignment;
/// `docs/explanation.md` and the structures agree.
mod document;
/// Deletion and insertion on a model of which it is known what it hears.
mod faithfulness;
/// Devices that fail, at every call.
mod faults;
/// The front door: what fits together, what is refused, saving, stopping.
mod listener;
/// Infidelity against Captum's.
mod perturbation;
/// The report in a real browser.
mod report_page;
/// Occlusion: exact properties, convergence, stopping.
mod spes;
/// When Whisper's tokens were said, against transformers.
mod token_times;
/// Maps over the samples of a waveform.
mod waveform;
