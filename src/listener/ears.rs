//! How a listener hears: its front end, and the last sound's features.

use std::sync::Arc;

use super::Input;
use crate::features::{Features, FrontEnd};
use crate::model::Model;
use crate::{Error, Result};

pub(super) struct Ears {
    pub front_end: FrontEnd,
    /// So that a sound is not heard again to be explained.
    last: Option<(Input, Arc<Features>)>,
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
    /// If the sound is too short, or features are none of the model's.
    pub fn hear(&mut self, input: &Input) -> Result<&Features> {
        remembered(&self.front_end, &mut self.last, input)
    }

    /// The features of a sound that the model hears at once.
    ///
    /// # Errors
    /// If it is too long or too short for that.
    pub fn hear_at_once(&mut self, model: &Model, input: &Input) -> Result<&Features> {
        let features = remembered(&self.front_end, &mut self.last, input)?;
        let window = model.capabilities.window_frames;
        let whole = window.is_none_or(|window| features.sound_frames < window);
        if let Some(sound) = input.sound()
            && !(whole && features.pieces.is_empty())
        {
            // The front end counts samples: a sound may be longer than its window by less than
            // a frame. And it says why it cut a recording.
            self.front_end.features(sound.waveform())?;
        }
        model.check_features(features)?;
        Ok(features)
    }
}

fn remembered<'a>(
    front_end: &FrontEnd,
    last: &'a mut Option<(Input, Arc<Features>)>,
    input: &Input,
) -> Result<&'a Features> {
    let features = match (last.take(), input) {
        (Some((own, features)), _) if own.is(input) => features,
        (_, Input::Sound(sound)) => Arc::new(front_end.recording(sound.waveform())?),
        (_, Input::Features(features)) => {
            check(features, front_end)?;
            features.clone()
        }
    };
    Ok(&last.insert((input.clone(), features)).1)
}

/// Refuses features that no front end of this kind makes.
fn check(features: &Features, front_end: &FrontEnd) -> Result<()> {
    features.check()?;
    let bins = front_end.bins();
    if features.bins != bins {
        let problem = format!("features have {bins} bins here, not {}", features.bins);
        return Err(Error::Input(problem));
    }
    if features.sound_frames == 0 {
        return Err(Error::Input("none of the features' frames is sound".into()));
    }
    match features.data.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (frame, bin, value) = (at / bins, at % bins, features.data[at]);
            let problem = format!("the features are {value} at frame {frame}, bin {bin}");
            Err(Error::Input(problem))
        }
    }
}
