//! Maps over the samples of a waveform as a page shows them: the largest value of each
//! 10 ms, over a spectrogram that is for the eye alone.

use crate::audio::Waveform;
use crate::explain::explanation::{Explanation, Model};
use crate::explain::{Map, Site};
use crate::features::{FRAME_SHIFT, Features, FrontEnd};

/// Bins of the spectrogram.
const BINS: usize = 80;

/// An explanation by frames of 10 ms, and how many samples it was of.
pub(super) struct InFrames {
    pub explanation: Explanation,
    pub samples: usize,
    /// (T, F) of the spectrogram, where the sound is there
    pub features: Option<Features>,
}

/// A map (I, T, 1) of the largest values of its frames.
pub(super) struct Framed {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

impl InFrames {
    /// Nothing where the frames of an explanation are no samples.
    pub fn of(explanation: &Explanation, sound: Option<&Waveform>) -> Option<Self> {
        let own = &explanation.model;
        if own.mel_scale.is_some() || own.mel_bins != 1 || own.frame_seconds >= 0.001 {
            return None;
        }
        let front_end = FrontEnd::whisper(BINS).ok()?;
        let features = sound.and_then(|sound| front_end.recording(sound).ok());
        let explanation = Explanation {
            model: Model {
                frames: own.frames.div_ceil(FRAME_SHIFT),
                frame_seconds: own.frame_seconds * FRAME_SHIFT as f64,
                mel_bins: BINS,
                mel_scale: front_end.mel_scale(),
                ..own.clone()
            },
            ..explanation.clone()
        };
        Some(Self {
            samples: own.frames,
            features: features.map(|all| all.sound()),
            explanation,
        })
    }

    /// A map at the input by frames; nothing for maps elsewhere.
    pub fn framed(&self, map: &Map) -> Option<Framed> {
        if map.site() != Site::Input {
            return None;
        }
        let largest = |own: &[f32]| {
            let first = own.first().copied().unwrap_or_default();
            own.iter()
                .fold(first, |most, &x| match x.abs() > most.abs() {
                    true => x,
                    false => most,
                })
        };
        let rows = map.data().chunks(self.samples);
        let data = rows.flat_map(|row| row.chunks(FRAME_SHIFT).map(largest));
        Some(Framed {
            shape: vec![map.shape()[0], self.explanation.model.frames, 1],
            data: data.collect(),
        })
    }
}
