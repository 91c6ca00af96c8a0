//! The works that are timed, each from uploaded nothing to values read.

use super::subject::Subject;
use crate::Result;
use crate::engine::executor::{Executor, Inputs};
use crate::engine::profile::Purpose;
use crate::engine::tensor::PersistentId;
use crate::explain::passes::{EncoderOutput, MapSpec, Site, Utterance, forward_and_gradients};
use crate::explain::spes::{Occluded, Segmentation, SpesOptions, Stop, spes};
use crate::generate::{GenerationOptions, generate};
use crate::model::Model;
use crate::ops::Reduction;

/// What is timed. Making plans and transfers are part of it, as they are for
/// every utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Log-probabilities under forced decoding.
    Forward,
    /// The same, and the gradient of every token at the features.
    Gradient,
    /// Occlusion of the features, from superpixels to the map.
    Spes,
    /// Greedy search for as many tokens as the subject has.
    Generate,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Gradient => "gradient",
            Self::Spes => "spes",
            Self::Generate => "generate",
        }
    }
}

/// A model and what it is measured on.
pub struct Bench<'a> {
    pub model: &'a Model,
    pub subject: &'a Subject,
    /// Made before the clock starts, for [`Work::Spes`].
    pub segmentation: Option<Segmentation>,
    pub masks: usize,
    /// Bytes a pass may take beside the weights.
    pub memory: usize,
}

impl Bench<'_> {
    /// Does a work once.
    ///
    /// # Errors
    /// If the subject does not fit the model, or the device fails.
    pub fn run(&self, executor: &mut dyn Executor, work: Work) -> Result<()> {
        let mark = executor.mark();
        let done = match work {
            Work::Forward => self.pass(executor, &[]),
            Work::Gradient => {
                let spec = MapSpec {
                    site: Site::Input,
                    times_input: false,
                    reduction: Reduction::None,
                };
                self.pass(executor, &[spec])
            }
            Work::Spes => self.spes(executor),
            Work::Generate => self.generate(executor),
        };
        executor.unwind(mark);
        done
    }

    fn place<'a>(
        &'a self,
        executor: &mut dyn Executor,
        inputs: &mut Inputs<'a>,
    ) -> Result<Utterance> {
        let Subject {
            features,
            ids,
            positions,
            labels,
        } = self.subject;
        let model = self.model;
        Utterance::place(executor, inputs, model, features, ids, positions, labels)
    }

    fn pass(&self, executor: &mut dyn Executor, specs: &[MapSpec]) -> Result<()> {
        let mut inputs = Inputs::default();
        let utterance = self.place(executor, &mut inputs)?;
        inputs.send(executor, Purpose::Maps)?;
        let pass = forward_and_gradients(executor, self.model, &utterance, specs, self.memory)?;
        let mut results = vec![pass.forward.log_probs];
        results.extend(pass.maps.iter().map(|map| map.id));
        executor.read(&results, Purpose::Maps)?;
        Ok(())
    }

    fn spes(&self, executor: &mut dyn Executor) -> Result<()> {
        let mut inputs = Inputs::default();
        let utterance = self.place(executor, &mut inputs)?;
        let segmentation = match &self.segmentation {
            Some(segmentation) => segmentation.clone(),
            None => self.subject.segmentation()?,
        };
        let segments = segmentation.place(executor, &mut inputs)?;
        inputs.send(executor, Purpose::Maps)?;
        // Not looked at where the features are occluded.
        let nowhere = EncoderOutput {
            sound: PersistentId(u32::MAX),
            filling: None,
        };
        let options = SpesOptions {
            stop: Stop::Masks(self.masks),
            memory: self.memory,
            ..SpesOptions::default()
        };
        let pass = spes(
            executor,
            self.model,
            &utterance,
            nowhere,
            Occluded::Input,
            segments,
            None,
            &options,
            &mut |_| true,
        )?;
        executor.read(&[pass.map.id], Purpose::Maps)?;
        Ok(())
    }

    fn generate(&self, executor: &mut dyn Executor) -> Result<()> {
        let tokens = self.subject.ids.len();
        let positions = self.model.decoder.config.max_tokens;
        let options = GenerationOptions {
            beams: 1,
            max_new_tokens: Some(tokens),
            max_length: positions,
            positions,
            // The end does not come before.
            min_new_tokens: tokens,
            no_repeat_ngram_size: 0,
            length_penalty: 1.0,
            early_stopping: false,
            start: self.model.tokens.start,
            forced: Vec::new(),
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
            whisper: None,
        };
        generate(executor, self.model, &self.subject.features, &options)?;
        Ok(())
    }
}
