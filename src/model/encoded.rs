//! A sound's way through the encoder, kept on a device, so that to write down
//! what was said and to explain it the sound is encoded once.

use crate::Result;
use crate::engine::executor::Executor;
use crate::engine::recording::{Made, Recording};
use crate::engine::tensor::{Kind, PersistentId, Shape};
use crate::features::Features;
use crate::fingerprint::Fingerprint;

/// What an encoder made of a window of features.
#[derive(Debug)]
pub struct Encoded {
    /// Of the features.
    fingerprint: Fingerprint,
    frames: [usize; 2],
    /// The output (1, T', D) and, where gradients are to go back through the
    /// encoder, what their reverse reads: by operator.
    made: Vec<(Made, PersistentId, Shape)>,
    /// Which of them is the output.
    output: usize,
    /// Whether gradients can go back through the encoder.
    reversible: bool,
}

impl Encoded {
    /// Reserves memory for what operators of an encoder make; one of it is the
    /// output.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn allocate(
        executor: &mut dyn Executor,
        features: &Features,
        made: &[(Made, Shape)],
        output: usize,
        reversible: bool,
    ) -> Result<Self> {
        let made = made.iter().map(|&(own, shape)| {
            let id = executor.allocate(Kind::Real, shape)?;
            Ok((own, id, shape))
        });
        let made = made.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            fingerprint: Fingerprint::of_numbers(&features.data),
            frames: [features.frames, features.sound_frames],
            made,
            output,
            reversible,
        })
    }

    /// Whether it is of these features.
    pub fn is_of(&self, features: &Features) -> bool {
        self.frames == [features.frames, features.sound_frames]
            && self.fingerprint == Fingerprint::of_numbers(&features.data)
    }

    /// Whether gradients can go back through the encoder.
    pub fn reversible(&self) -> bool {
        self.reversible
    }

    /// The encoder's output and its shape.
    pub fn output(&self) -> (PersistentId, Shape) {
        let (_, id, shape) = self.made[self.output];
        (id, shape)
    }

    /// Numbers that it holds.
    pub fn numbers(&self) -> usize {
        self.made.iter().map(|(.., shape)| shape.len()).sum()
    }

    /// Lets a recording of nothing but the encoder leave its results here.
    pub fn keep(&self, recording: &mut Recording) {
        for &(made, id, _) in &self.made {
            let tensor = recording.made(made);
            recording.keep(tensor, id);
        }
    }

    /// The same where nothing is to be computed again: later operators of the
    /// recording, its reverse included, read what is here.
    pub fn stand_in(&self, recording: &mut Recording) {
        self.keep(recording);
        recording.already_done();
    }

    /// Gives the memory back.
    pub fn free(self, executor: &mut dyn Executor) {
        for (_, id, _) in self.made {
            executor.free(id);
        }
    }
}
