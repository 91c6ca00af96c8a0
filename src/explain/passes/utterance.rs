//! One utterance on the device: its inputs and sizes, and how recordings read
//! it, run the model on it and ask for its tokens.

use super::no_gradients;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::recording::Recording;
use crate::engine::reverse::Seed;
use crate::engine::tensor::{Kind, PersistentId, Shape, TensorId};
use crate::explain::method::Site;
use crate::explain::profile::MAPS;
use crate::features::Features;
use crate::model::Model;
use crate::model::decoder::Decoded;
use crate::ops::TokenLogProb;
use crate::{Error, Result};

/// Persistent inputs of one utterance, and its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Utterance {
    /// (1, T, F): the sound
    features: PersistentId,
    /// (1, W - T, F): what fills a model's window of W frames behind it
    filling: Option<PersistentId>,
    /// (1, I, 1): the decoder's input
    pub(in crate::explain) ids: PersistentId,
    /// (1, K, 1): decoder positions of the explained tokens
    pub(in crate::explain) positions: PersistentId,
    /// (1, K, 1): their ids
    labels: PersistentId,
    /// T
    pub frames: usize,
    /// W, or T where there is no window
    window: usize,
    /// F
    pub mel_bins: usize,
    /// T'
    pub encoder_frames: usize,
    /// W'
    pub(in crate::explain) encoder_window: usize,
    /// I
    pub inputs: usize,
    /// K
    pub explained: usize,
}

impl Utterance {
    /// Adds features, the decoder's input, and positions and ids of the tokens
    /// to be explained to what will be uploaded.
    ///
    /// # Errors
    /// If the model cannot take them.
    pub fn place<'a>(
        executor: &mut dyn Executor,
        inputs: &mut Inputs<'a>,
        model: &Model,
        features: &'a Features,
        ids: &'a [u32],
        positions: &'a [u32],
        labels: &'a [u32],
    ) -> Result<Self> {
        model.check_features(features)?;
        let decoder = &model.decoder.config;
        if ids.len() > decoder.max_tokens {
            return Err(Error::Input(format!(
                "{} tokens are more than the model's {}",
                ids.len(),
                decoder.max_tokens
            )));
        }
        let all = ids.iter().chain(labels);
        if let Some(id) = all
            .into_iter()
            .find(|id| **id as usize >= decoder.vocabulary)
        {
            return Err(Error::Input(format!(
                "token id {id} is not in the model's vocabulary of {}",
                decoder.vocabulary
            )));
        }
        if positions
            .iter()
            .any(|&position| position as usize >= ids.len())
            || positions.len() != labels.len()
            || labels.is_empty()
        {
            return Err(Error::Input(format!(
                "{} tokens at {} positions of {} cannot be explained",
                labels.len(),
                positions.len(),
                ids.len()
            )));
        }
        let (sound, filling) = features
            .data
            .split_at(features.sound_frames * features.bins);
        let rows = |count| Shape::new(1, count, features.bins);
        let own = inputs.real(executor, rows(features.sound_frames), sound)?;
        let rest = features.frames - features.sound_frames;
        let filling = match rest {
            0 => None,
            _ => Some(inputs.real(executor, rows(rest), filling)?),
        };
        let mut list = |values: &'a [u32]| {
            let shape = Shape::new(1, values.len(), 1);
            inputs.indices(executor, shape, values)
        };
        Ok(Self {
            features: own,
            filling,
            ids: list(ids)?,
            positions: list(positions)?,
            labels: list(labels)?,
            frames: features.sound_frames,
            window: features.frames,
            mel_bins: features.bins,
            encoder_frames: model.encoder.encoder_frames(features.sound_frames),
            encoder_window: model.encoder.encoder_frames(features.frames),
            inputs: ids.len(),
            explained: labels.len(),
        })
    }

    /// As [`place`](Self::place), uploaded at once.
    ///
    /// # Errors
    /// If the model cannot take them or the device fails.
    pub fn upload(
        executor: &mut dyn Executor,
        model: &Model,
        features: &Features,
        ids: &[u32],
        positions: &[u32],
        labels: &[u32],
    ) -> Result<Self> {
        let mut inputs = Inputs::default();
        let own = &mut inputs;
        let utterance = Self::place(executor, own, model, features, ids, positions, labels)?;
        inputs.send(executor, MAPS)?;
        Ok(utterance)
    }

    /// Gives its memory back.
    pub(super) fn free(&self, executor: &mut dyn Executor) {
        let all = [self.features, self.ids, self.positions, self.labels];
        for id in all.into_iter().chain(self.filling) {
            executor.free(id);
        }
    }

    /// What is varied or differentiated at a site, and its shape: (1, T, F) or
    /// (1, T', D).
    ///
    /// # Errors
    /// If there are no gradients at the site.
    pub(super) fn source(
        &self,
        model: &Model,
        site: Site,
        output: EncoderOutput,
    ) -> Result<(PersistentId, Shape)> {
        let width = model.decoder.config.encoder_width;
        match site {
            Site::Input => Ok((self.features, Shape::new(1, self.frames, self.mel_bins))),
            Site::Encoder => Ok((output.sound, Shape::new(1, self.encoder_frames, width))),
            Site::Tokens | Site::Decoder => Err(no_gradients()),
        }
    }

    pub(in crate::explain) fn features(&self, recording: &mut Recording) -> TensorId {
        let shape = Shape::new(1, self.frames, self.mel_bins);
        recording.persistent(self.features, Kind::Real, shape)
    }

    /// Records the encoder: variants of the sound (N, T, F) to (N, W', D).
    pub(in crate::explain) fn encode(
        &self,
        model: &Model,
        recording: &mut Recording,
        sound: TensorId,
    ) -> Result<TensorId> {
        let rest = Shape::new(1, self.window - self.frames, self.mel_bins);
        let whole = joined(recording, sound, self.filling, rest)?;
        model.encoder.record(recording, whole)
    }

    /// Records the whole encoder output (N, W', D) for variants of the
    /// sound's (N, T', D).
    pub(in crate::explain) fn whole_output(
        &self,
        recording: &mut Recording,
        sound: TensorId,
        output: EncoderOutput,
    ) -> Result<TensorId> {
        let width = recording.shape(sound).cols;
        let rest = Shape::new(1, self.encoder_window - self.encoder_frames, width);
        joined(recording, sound, output.filling, rest)
    }

    pub(in crate::explain) fn indices(
        &self,
        recording: &mut Recording,
        id: PersistentId,
        count: usize,
    ) -> TensorId {
        recording.persistent(id, Kind::Index, Shape::new(1, count, 1))
    }

    pub(super) fn seed(&self, recording: &mut Recording, logits: TensorId, count: usize) -> Seed {
        Seed {
            logits,
            positions: self.indices(recording, self.positions, self.explained),
            labels: self.indices(recording, self.labels, self.explained),
            count,
        }
    }

    pub(super) fn decode(
        &self,
        model: &Model,
        recording: &mut Recording,
        encoder_output: TensorId,
    ) -> Result<Decoded> {
        let memories = model.decoder.record_memories(recording, encoder_output)?;
        let ids = self.indices(recording, self.ids, self.inputs);
        let input = model.decoder.record_input(recording, ids)?;
        let begun = model.decoder.record_begin(recording, input)?;
        model.decoder.record(recording, begun, &memories)
    }

    /// Records what the model makes of variants of the sound: `sound`
    /// (N, T, F) to log-probabilities (N, K, 1) in `to`.
    pub(in crate::explain) fn record_variants(
        &self,
        model: &Model,
        recording: &mut Recording,
        sound: TensorId,
        to: PersistentId,
    ) -> Result<()> {
        let output = self.encode(model, recording, sound)?;
        let decoded = self.decode(model, recording, output)?;
        self.record_log_probs(recording, decoded.logits, to);
        Ok(())
    }

    pub(super) fn record_log_probs(
        &self,
        recording: &mut Recording,
        logits: TensorId,
        to: PersistentId,
    ) {
        let lead = recording.shape(logits).lead;
        let y = recording.computed(Shape::new(lead, self.explained, 1));
        let seed = self.seed(recording, logits, 1);
        recording.push(TokenLogProb {
            logits,
            positions: seed.positions,
            labels: seed.labels,
            y,
        });
        recording.keep(y, to);
    }
}

/// `sound`, followed by the rows of `filling` if there are any.
fn joined(
    recording: &mut Recording,
    sound: TensorId,
    filling: Option<PersistentId>,
    shape: Shape,
) -> Result<TensorId> {
    match filling {
        None => Ok(sound),
        Some(id) => {
            let filling = recording.persistent(id, Kind::Real, shape);
            recording.join_rows(sound, filling)
        }
    }
}

/// An encoder's output on the device.
#[derive(Clone, Copy, Debug)]
pub struct EncoderOutput {
    /// (1, T', D): of the sound
    pub sound: PersistentId,
    /// (1, W' - T', D): of what fills the window behind it
    pub filling: Option<PersistentId>,
}
