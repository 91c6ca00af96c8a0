//! How a listener hears: its front end, and the last sound's features.

use crate::Result;
use crate::audio::Sound;
use crate::features::{Features, FrontEnd};
use crate::model::Model;

pub(super) struct Ears {
    pub front_end: FrontEnd,
    /// So that a sound is not heard again to be explained.
    last: Option<(Sound, Features)>,
}

impl Ears {
    pub fn new(front_end: FrontEnd) -> Self {
        Self {
            front_end,
            last: None,
        }
    }

    /// The features of a sound of any length: (T, F), T being a window's
    /// length or more where there are windows.
    ///
    /// # Errors
    /// If the sound is too short.
    pub fn hear(&mut self, sound: &Sound) -> Result<&Features> {
        remembered(&self.front_end, &mut self.last, sound)
    }

    /// The features of a sound that the model hears at once.
    ///
    /// # Errors
    /// If it is too long or too short for that.
    pub fn hear_at_once(&mut self, model: &Model, sound: &Sound) -> Result<&Features> {
        let features = remembered(&self.front_end, &mut self.last, sound)?;
        let window = model.capabilities.window_frames;
        if window.is_some_and(|window| features.sound_frames >= window) {
            // The front end counts samples: a sound may be longer than its window by less than
            // a frame.
            self.front_end.features(sound.waveform())?;
        }
        model.check_features(features)?;
        Ok(features)
    }
}

fn remembered<'a>(
    front_end: &FrontEnd,
    last: &'a mut Option<(Sound, Features)>,
    sound: &Sound,
) -> Result<&'a Features> {
    let features = match last.take() {
        Some((own, features)) if own.is(sound) => features,
        _ => front_end.recording(sound.waveform())?,
    };
    Ok(&last.insert((sound.clone(), features)).1)
}
