//! The pieces that masks hide, and masks that are given instead of drawn.

use super::options::SpesOptions;
use super::slic::{SlicOptions, scaled_segments, slic};
use crate::engine::executor::{Executor, Inputs};
use crate::engine::tensor::{PersistentId, Shape};
use crate::features::{Features, Kind};
use crate::{Error, Result};

/// How many segments there are and where.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// (G, R, C), from 0: the segment of each element, for G segmentations
    pub labels: Vec<u32>,
    pub shape: Shape,
    /// Segments of the largest segmentation.
    pub segments: usize,
}

impl Segmentation {
    /// The pieces of features of a kind: superpixels, or stretches of time where
    /// they are samples.
    ///
    /// # Errors
    /// If the features or options cannot be segmented.
    pub fn of_features(kind: Kind, features: &Features, options: &SpesOptions) -> Result<Self> {
        match kind {
            Kind::Waveform => Self::stretches(features, kind, options),
            _ => Self::superpixels(features, options),
        }
    }

    /// Stretches of time, all equally long but the last.
    fn stretches(features: &Features, kind: Kind, options: &SpesOptions) -> Result<Self> {
        let (samples, own) = (features.sound_frames, options.segment_ms);
        let each = (own / 1000.0 / kind.frame_seconds()).round() as usize;
        let problem = if each == 0 {
            "shorter than a sample"
        } else if each >= samples {
            "no shorter than the sound: there is nothing to tell apart"
        } else {
            ""
        };
        if !problem.is_empty() {
            let problem = format!("spes: stretches of {own} ms are {problem}");
            return Err(Error::Input(problem));
        }
        Ok(Self {
            labels: (0..samples).map(|sample| (sample / each) as u32).collect(),
            shape: Shape::new(1, samples, features.bins),
            segments: samples.div_ceil(each),
        })
    }

    /// Superpixels of the features, for every nominal number of segments.
    ///
    /// # Errors
    /// If the features or options cannot be segmented.
    pub fn superpixels(features: &Features, options: &SpesOptions) -> Result<Self> {
        let features = &features.sound();
        let mut labels = Vec::new();
        let mut segments = 0;
        for &nominal in &options.segments {
            let found = slic(
                features,
                SlicOptions {
                    segments: scaled_segments(nominal, features.frames),
                    compactness: options.compactness,
                    sigma: options.sigma,
                },
            )?;
            segments = segments.max(found.count);
            labels.extend(found.labels.iter().map(|label| label - 1));
        }
        Ok(Self {
            labels,
            shape: Shape::new(options.segments.len(), features.frames, features.bins),
            segments,
        })
    }

    /// Every element of (rows, cols) by itself.
    pub fn elements(rows: usize, cols: usize) -> Self {
        Self {
            labels: (0..(rows * cols) as u32).collect(),
            shape: Shape::new(1, rows, cols),
            segments: rows * cols,
        }
    }

    /// Adds the labels to what will be uploaded.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn place(self, executor: &mut dyn Executor, inputs: &mut Inputs) -> Result<Segments> {
        Ok(Segments {
            labels: inputs.indices(executor, self.shape, self.labels)?,
            shape: self.shape,
            count: self.segments,
        })
    }
}

/// A [`Segmentation`] on the device.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// (G, R, C)
    pub(in crate::explain) labels: PersistentId,
    pub(in crate::explain) shape: Shape,
    /// Segments of the largest segmentation.
    pub(in crate::explain) count: usize,
}

impl Segments {
    /// (2·G, segments, K + 1): for both halves of the masks, the sums of the
    /// scores of those that hide a segment, and their number.
    pub(in crate::explain) fn sums_shape(&self, tokens: usize) -> Shape {
        Shape::new(2 * self.shape.lead, self.count, tokens + 1)
    }
}

/// Masks that are given instead of drawn, on the device.
#[derive(Clone, Copy, Debug)]
pub struct GivenMasks {
    /// (1, M, words): a bit for every segment that a mask hides
    pub(in crate::explain) bits: PersistentId,
    pub(in crate::explain) shape: Shape,
}

impl GivenMasks {
    /// Adds masks to what will be uploaded; `hidden`: (M, segments), whether
    /// each mask hides each segment.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn place(
        executor: &mut dyn Executor,
        inputs: &mut Inputs,
        hidden: &[bool],
        segments: usize,
    ) -> Result<Self> {
        let words = segments.div_ceil(32);
        let shape = Shape::new(1, hidden.len() / segments, words);
        let bits = pack(hidden, segments, words);
        Ok(Self {
            bits: inputs.indices(executor, shape, bits)?,
            shape,
        })
    }

    /// M
    pub(in crate::explain) fn count(&self) -> usize {
        self.shape.rows
    }
}

/// Masks as bits: (M, segments) to (M, words).
fn pack(hidden: &[bool], segments: usize, words: usize) -> Vec<u32> {
    let mut bits = vec![0u32; hidden.len() / segments * words];
    for (row, hidden) in bits.chunks_mut(words).zip(hidden.chunks(segments)) {
        for (segment, _) in hidden.iter().enumerate().filter(|(_, hidden)| **hidden) {
            row[segment / 32] |= 1 << (segment % 32);
        }
    }
    bits
}
