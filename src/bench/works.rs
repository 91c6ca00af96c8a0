//! The works that are timed, each from uploaded nothing to values read.

use super::subject::Subject;
use crate::Result;
use crate::engine::executor::{Executor, Inputs};
use crate::explain::Site;
use crate::explain::passes::{MapSpec, Utterance, forward_and_gradients};
use crate::explain::profile::MAPS;
use crate::explain::spes::{Masks, Occluded, Occlusion, Segmentation, SpesOptions, Stop};
use crate::generate::{GenerationOptions, generate};
use crate::model::Model;
use crate::ops::Reduction;

/// What is timed. Making plans and transfers are part of it, as they are for
/// every utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// The name in options and results.
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
    /// The model at work.
    pub model: &'a Model,
    /// What it works on.
    pub subject: &'a Subject,
    /// Made before the clock starts, for [`Work::Spes`].
    pub segmentation: Option<Segmentation>,
    /// Masks to score, for [`Work::Spes`].
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
        inputs.send(executor, MAPS)?;
        let pass = forward_and_gradients(executor, self.model, &utterance, specs, self.memory)?;
        let mut results = vec![pass.forward.log_probs];
        results.extend(pass.maps.iter().map(|map| map.id));
        executor.read(&results, MAPS)?;
        Ok(())
    }

    fn spes(&self, executor: &mut dyn Executor) -> Result<()> {
        let mut inputs = Inputs::default();
        let utterance = self.place(executor, &mut inputs)?;
        let segmentation = match &self.segmentation {
            Some(segmentation) => segmentation.clone(),
            None => self.subject.segmentation(self.model)?,
        };
        let segments = segmentation.place(executor, &mut inputs)?;
        inputs.send(executor, MAPS)?;
        let options = SpesOptions {
            stop: Stop::Masks(self.masks),
            ..SpesOptions::default()
        };
        let occlusion = Occlusion {
            model: self.model,
            utterance: &utterance,
            encoder_output: None,
            occluded: Occluded::Input,
            segments,
            masks: Masks::Random { seed: 0 },
            options: &options,
            memory: self.memory,
        };
        let pass = occlusion.run(executor, &mut |_| true)?;
        executor.read(&[pass.map.id], MAPS)?;
        Ok(())
    }

    fn generate(&self, executor: &mut dyn Executor) -> Result<()> {
        let tokens = self.subject.ids.len();
        let options = GenerationOptions {
            max_new_tokens: Some(tokens),
            // The end does not come before.
            min_new_tokens: tokens,
            ..GenerationOptions::plain(self.model)
        };
        generate(executor, self.model, &self.subject.features, &options)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::native::NativeExecutor;
    use crate::model::files::ModelFiles;

    fn spread(values: &[f32]) -> f64 {
        let squares = values.iter().map(|&x| f64::from(x).powi(2));
        (squares.sum::<f64>() / values.len() as f64).sqrt()
    }

    /// Random weights keep activations of order 1 through 32 layers.
    #[test]
    fn deep_random_models_neither_vanish_nor_explode() {
        for own in [
            json!({
                "architectures": ["WhisperForConditionalGeneration"],
                "num_mel_bins": 80,
                "max_source_positions": 20,
            }),
            json!({
                "architectures": ["Speech2TextForConditionalGeneration"],
                "input_feat_per_channel": 80,
                "conv_channels": 32,
                "conv_kernel_sizes": [5, 5],
                "max_source_positions": 100,
            }),
            json!({
                "architectures": ["ConformerEncoderDecoderForConditionalGeneration"],
                "input_feat_per_channel": 80,
                "conv_channels": 32,
                "conv_kernel_sizes": [5, 5],
                "max_source_positions": 100,
                "tie_word_embeddings": false,
            }),
        ] {
            let mut config = json!({
                "d_model": 48,
                "encoder_layers": 32,
                "decoder_layers": 32,
                "encoder_attention_heads": 4,
                "decoder_attention_heads": 4,
                "encoder_ffn_dim": 96,
                "decoder_ffn_dim": 96,
                "vocab_size": 300,
                "max_target_positions": 16,
                "bos_token_id": 0,
                "pad_token_id": 1,
                "eos_token_id": 2,
                "decoder_start_token_id": 2,
            });
            let fields = own.as_object().unwrap().clone();
            config.as_object_mut().unwrap().extend(fields);
            let files = ModelFiles::Random {
                name: "deep".into(),
                config,
                seed: 3,
            };
            let model = Model::load(files).unwrap();
            let subject = Subject::random(&model, 0.4, 8, 1).unwrap();
            let mut executor = NativeExecutor::<f32>::new(&model.weights, false);
            let utterance = Utterance::upload(
                &mut executor,
                &model,
                &subject.features,
                &subject.ids,
                &subject.positions,
                &subject.labels,
            )
            .unwrap();
            let pass = forward_and_gradients(&mut executor, &model, &utterance, &[], 1 << 30);
            let forward = pass.unwrap().forward;
            for id in [forward.encoder_output.sound, forward.logits] {
                let size = spread(&executor.read(&[id], MAPS).unwrap()[0]);
                println!("{}: {size}", model.architecture);
                assert!((0.3..3.0).contains(&size), "{}: {size}", model.architecture);
            }
        }
    }
}
