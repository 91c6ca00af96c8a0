//! What SPES records: one plan whose stages mask, decode, score and sum.

use super::run::{Occlusion, Targets};
use super::{Masks, Occluded};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, Shape, TensorId};
use crate::explain::passes::EncoderOutput;
use crate::model::decoder::Begun;
use crate::ops::{
    AccumulateScores, Baseline, Correlate, ExpandScores, Half, KlDivergence, MaskSource, PoolMax,
};
use crate::{Error, Result};

/// What stands for masks and segments in a recording.
struct Masking {
    source: MaskSource,
    /// (G, R, C)
    labels: TensorId,
    segments: usize,
    /// Masks applied at once.
    batch: usize,
}

impl Masking {
    /// `x` (1, R, C) under every mask, (batch, R, C); `fill` (1, R, C) stands
    /// where it is hidden.
    fn apply(&self, r: &mut Recording, x: TensorId, fill: TensorId) -> TensorId {
        r.apply_mask(x, self.labels, self.segments, self.source, fill, self.batch)
    }
}

impl Occlusion<'_> {
    /// The whole plan for `batch` masks at once.
    pub(super) fn record(&self, batch: usize, targets: &Targets) -> Result<Recording> {
        let mut recording = Recording::new(self.model.weights.clone());
        let r = &mut recording;
        let segments = self.segments;
        let masking = Masking {
            labels: r.persistent(segments.labels, Kind::Index, segments.shape),
            source: match self.masks {
                Masks::Random { seed } => {
                    let probability = self.options.probability_at(self.occluded);
                    MaskSource::random(seed, self.occluded as u32, probability)
                }
                Masks::Given(given) => MaskSource::Given {
                    bits: r.persistent(given.bits, Kind::Index, given.shape),
                },
            },
            segments: segments.count,
            batch,
        };
        let tokens = self.utterance.explained;
        let ids = self
            .utterance
            .indices(r, self.utterance.ids, self.utterance.inputs);
        let positions = self.utterance.indices(r, self.utterance.positions, tokens);
        let logits = self.record_masked(r, &masking, ids)?;
        self.record_scores(r, &masking, logits, positions, targets);
        let causal = (self.occluded == Occluded::Tokens).then_some(positions);
        self.record_maps(r, &masking, causal, targets);
        Ok(recording)
    }

    /// Logits (batch, I, V) under masks. What the masks do not touch is
    /// computed once, in a stage of its own.
    fn record_masked(
        &self,
        r: &mut Recording,
        masking: &Masking,
        ids: TensorId,
    ) -> Result<TensorId> {
        let (model, utterance, decoder) = (self.model, self.utterance, &self.model.decoder);
        let decoded = match (self.occluded, self.encoder_output) {
            (Occluded::Input, _) => {
                let x = utterance.features(r);
                let kind = self.options.baseline;
                let fill = r.computed(r.shape(x));
                r.push(Baseline { x, kind, y: fill });
                let begun = self.begin(r, ids)?;
                r.next_stage();
                let masked = masking.apply(r, x, fill);
                let output = utterance.encode(model, r, masked)?;
                let memories = decoder.record_memories(r, output)?;
                decoder.record(r, begun, &memories)?
            }
            (Occluded::Encoder, Some(output)) => {
                let memories = self.memories(r, output)?;
                let (sound, window) = (utterance.encoder_frames, utterance.encoder_window);
                let biases = decoder.record_memory_biases(r, sound)?;
                let begun = self.begin(r, ids)?;
                let mut parts = Vec::new();
                for (memory, bias) in memories.into_iter().zip(biases) {
                    let own = r.take_rows(memory, 0, sound)?;
                    let filling = r.take_rows(memory, sound, window - sound)?;
                    parts.push((own, filling, bias));
                }
                r.next_stage();
                let mut memories = Vec::new();
                for (own, filling, bias) in parts {
                    let masked = masking.apply(r, own, bias);
                    memories.push(match window - sound {
                        0 => masked,
                        _ => r.join_rows(masked, filling)?,
                    });
                }
                decoder.record(r, begun, &memories)?
            }
            (Occluded::Tokens, Some(output)) => {
                let memories = self.memories(r, output)?;
                let input = decoder.record_input(r, ids)?;
                let bare = decoder.record_positions(r, ids)?;
                r.next_stage();
                let masked = masking.apply(r, input, bare);
                let begun = decoder.record_begin(r, masked)?;
                decoder.record(r, begun, &memories)?
            }
            (Occluded::Encoder | Occluded::Tokens, None) => {
                let problem = "the encoder's output is needed where it, or a token, is occluded";
                return Err(Error::shape("spes", problem));
            }
        };
        Ok(decoded.logits)
    }

    /// What no mask of the sound changes in the decoder. Between operators of all masks
    /// it would part their region: memories of all of them would be kept.
    fn begin(&self, r: &mut Recording, ids: TensorId) -> Result<Begun> {
        let decoder = &self.model.decoder;
        let input = decoder.record_input(r, ids)?;
        decoder.record_begin(r, input)
    }

    /// Keys and values (1, W', 2A) of every decoder layer.
    fn memories(&self, r: &mut Recording, output: EncoderOutput) -> Result<Vec<TensorId>> {
        let utterance = self.utterance;
        let width = self.model.decoder.config.encoder_width;
        let shape = Shape::new(1, utterance.encoder_frames, width);
        let sound = r.persistent(output.sound, Kind::Real, shape);
        let output = utterance.whole_output(r, sound, output)?;
        self.model.decoder.record_memories(r, output)
    }

    /// How far every mask moves every token, added to the sums of the segments
    /// that it hides.
    fn record_scores(
        &self,
        r: &mut Recording,
        masking: &Masking,
        logits: TensorId,
        positions: TensorId,
        targets: &Targets,
    ) {
        let tokens = self.utterance.explained;
        r.next_stage();
        let reference = r.first_log_softmax(logits, 1);
        r.next_stage();
        let shape = Shape::new(masking.batch, tokens, 1);
        let scores = r.persistent(targets.scores, Kind::Real, shape);
        r.push(KlDivergence {
            reference,
            logits,
            positions,
            y: scores,
        });
        let sums = self.sums(r, targets);
        let clamped = r.persistent(targets.clamped, Kind::Real, Shape::new(1, tokens, 1));
        r.push(AccumulateScores {
            scores,
            source: masking.source,
            groups: self.segments.shape.lead,
            sums,
            clamped,
        });
    }

    /// (2·G, segments, K + 1)
    fn sums(&self, r: &mut Recording, targets: &Targets) -> TensorId {
        let shape = self.segments.sums_shape(self.utterance.explained);
        r.persistent(targets.sums, Kind::Real, shape)
    }

    /// How alike the maps of two halves of the masks are, then the map of all.
    fn record_maps(
        &self,
        r: &mut Recording,
        masking: &Masking,
        causal: Option<TensorId>,
        targets: &Targets,
    ) {
        let tokens = self.utterance.explained;
        r.next_stage();
        let sums = self.sums(r, targets);
        let expand = |r: &mut Recording, half: Half, map: TensorId| {
            r.push(ExpandScores {
                sums,
                labels: masking.labels,
                half,
                causal,
                map,
            });
            map
        };
        let halves = [Half::First, Half::Second].map(|half| {
            let map = r.computed(targets.map.shape);
            expand(r, half, map)
        });
        let pooled = match self.occluded {
            Occluded::Input => halves.map(|x| {
                let y = r.computed(Shape::new(tokens, self.utterance.encoder_frames, 1));
                r.push(PoolMax { x, y });
                y
            }),
            _ => halves,
        };
        let status = Shape::new(tokens, 1, 2);
        for ([a, b], id) in [
            (pooled, targets.pooled_status),
            (halves, targets.full_status),
        ] {
            let y = r.persistent(id, Kind::Real, status);
            r.push(Correlate { a, b, causal, y });
        }
        r.next_stage();
        let map = r.persistent(targets.map.id, Kind::Real, targets.map.shape);
        expand(r, Half::Both, map);
    }
}
