//! What a model says was said: greedy and beam search with a key-value cache.
//!
//! Scores, length normalisation and the stopping rule are those of the
//! transformers library, so that the same weights give the same tokens.

use serde_json::Value;

use crate::engine::executor::{Executor, Inputs, PlanId, Values};
use crate::engine::profile::Purpose;
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalar, Scalars, Shape};
use crate::features::Features;
use crate::model::Model;
use crate::model::decoder::StepState;
use crate::ops::{Candidates, NO_TOKEN};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Cache sizes: a plan serves all sequences up to its capacity.
const CAPACITIES: [usize; 4] = [64, 128, 256, 448];

/// How to search.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationOptions {
    /// Hypotheses kept; 1 is greedy search.
    pub beams: usize,
    /// Most tokens of the decoder's sequence, prompt and end included.
    pub max_tokens: usize,
    /// No n-gram of this size occurs twice; 0 allows all.
    pub no_repeat_ngram_size: usize,
    /// Exponent of the length by which a hypothesis' score is divided.
    pub length_penalty: f64,
    /// What the decoder starts with; not part of the result.
    pub prompt: Vec<u32>,
    /// First tokens of the result, such as a language tag.
    pub forced: Vec<u32>,
    /// Tokens never chosen.
    pub suppressed: Vec<u32>,
}

impl GenerationOptions {
    /// The options that a model's `generation_config.json` asks for.
    ///
    /// # Errors
    /// If the language is unknown to the model.
    pub fn new(
        model: &Model,
        tokenizer: &Tokenizer,
        language: Option<&str>,
        beams: Option<usize>,
    ) -> Result<Self> {
        let config = &model.generation;
        let size = |name: &str| config[name].as_u64().map(|size| size as usize);
        let limit = model.decoder.config.max_tokens;
        let token = |value: &Value| value.as_u64().map(|id| id as u32);
        let forced = match language {
            Some(language) => Some(tokenizer.language_token(language)?),
            None => token(&config["forced_bos_token_id"]),
        };
        let suppressed = config["suppress_tokens"].as_array();
        let suppressed = suppressed.into_iter().flatten().filter_map(token);
        Ok(Self {
            beams: beams.or(size("num_beams")).unwrap_or(1).max(1),
            max_tokens: size("max_length").unwrap_or(limit).min(limit),
            no_repeat_ngram_size: size("no_repeat_ngram_size").unwrap_or(0),
            length_penalty: config["length_penalty"].as_f64().unwrap_or(1.0),
            prompt: vec![model.tokens.start],
            forced: forced.into_iter().collect(),
            suppressed: suppressed.collect(),
        })
    }
}

/// What was generated.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// Tokens after the prompt, forced ones and the end included.
    pub tokens: Vec<u32>,
    /// Natural logarithm of the sequence's probability, divided by its length
    /// to the power of the length penalty.
    pub score: f64,
    /// Whether the length limit ended it instead of the end of sentence.
    pub truncated: bool,
}

/// A model on a device, ready to transcribe one utterance after another.
struct Decoding<'a> {
    executor: &'a mut dyn Executor,
    state: StepState,
    plan: PlanId,
    /// (N, 1, 1)
    ids: PersistentId,
    /// (N, capacity, 1)
    banned: PersistentId,
    /// (N, count, 2)
    chosen: PersistentId,
    count: usize,
}

/// Transcribes an utterance.
///
/// # Errors
/// If the features do not fit the model or the device fails.
pub fn generate(
    executor: &mut dyn Executor,
    model: &Model,
    features: &Features,
    options: &GenerationOptions,
) -> Result<Generated> {
    model.check_features(features)?;
    if options.prompt.len() + options.forced.len() >= options.max_tokens {
        return Err(Error::Input(format!(
            "a limit of {} tokens leaves no room after a prompt of {}",
            options.max_tokens,
            options.prompt.len() + options.forced.len()
        )));
    }
    let mark = executor.mark();
    let started = Decoding::start(executor, model, features, options);
    let result = started.and_then(|mut decoding| match options.beams {
        1 => decoding.greedy(model.tokens.end, options),
        _ => decoding.beams(model.tokens.end, options),
    });
    executor.unwind(mark);
    result
}

impl<'a> Decoding<'a> {
    /// Encodes the utterance and prepares decoding steps.
    fn start(
        executor: &'a mut dyn Executor,
        model: &Model,
        features: &Features,
        options: &GenerationOptions,
    ) -> Result<Self> {
        let config = &model.decoder.config;
        let frames = model.encoder.encoder_frames(features.frames);
        let mut recording = Recording::new(model.weights.clone());
        let shape = Shape::new(1, features.frames, features.bins);
        let mut inputs = Inputs::default();
        let own = inputs.real(executor, shape, &features.data)?;
        let words = Shape::new(1, 1, config.vocabulary);
        let mut table = vec![1.0; config.vocabulary];
        for &token in &options.suppressed {
            if let Some(allowed) = table.get_mut(token as usize) {
                *allowed = 0.0;
            }
        }
        let allowed = inputs.real(executor, words, table)?;
        inputs.send(executor, Purpose::Generation)?;
        let x = recording.persistent(own, Kind::Real, shape);
        let output = model.encoder.record(&mut recording, x)?;
        let mut memories = Vec::new();
        for memory in model.decoder.record_memories(&mut recording, output)? {
            let id = executor.allocate(Kind::Real, recording.shape(memory))?;
            recording.keep(memory, id);
            memories.push(id);
        }
        let plan = executor.prepare(recording)?;
        executor.run(plan, 0, Scalars::default())?;
        executor.release(plan);
        executor.free(own);

        let beams = options.beams;
        let capacity = CAPACITIES
            .into_iter()
            .find(|&capacity| capacity >= options.max_tokens)
            .unwrap_or(options.max_tokens);
        let caches = (0..config.layers)
            .map(|_| executor.allocate(Kind::Real, Shape::new(beams, capacity, 2 * config.width)))
            .collect::<Result<_>>()?;
        let list = Shape::new(beams, capacity, 1);
        let state = StepState {
            caches,
            memories,
            ancestry: executor.allocate(Kind::Index, list)?,
            hypotheses: beams,
            capacity,
            encoder_frames: frames,
        };
        let ids = executor.allocate(Kind::Index, Shape::new(beams, 1, 1))?;
        let banned = executor.allocate(Kind::Index, list)?;
        // Every beam may end, so twice as many candidates are looked at.
        let count = if beams == 1 { 1 } else { 2 * beams }.min(config.vocabulary);
        let best = Shape::new(beams, count, 2);
        let chosen = executor.allocate(Kind::Real, best)?;

        let mut recording = Recording::new(model.weights.clone());
        let tokens = recording.persistent(ids, Kind::Index, Shape::new(beams, 1, 1));
        let logits = model.decoder.record_step(&mut recording, tokens, &state)?;
        let log_probabilities = recording.log_softmax(logits);
        let operator = Candidates {
            log_probabilities,
            allowed: recording.persistent(allowed, Kind::Real, words),
            banned: recording.persistent(banned, Kind::Index, list),
            count,
            chosen: recording.persistent(chosen, Kind::Real, best),
        };
        recording.push(operator);
        let plan = executor.prepare(recording)?;
        Ok(Self {
            executor,
            state,
            plan,
            ids,
            banned,
            chosen,
            count,
        })
    }

    /// Runs one step: every hypothesis gets its newest token at position
    /// `step` and gives its best candidates (log-probability, id).
    fn step(
        &mut self,
        step: usize,
        sequences: &[Vec<u32>],
        ancestry: &[Vec<u32>],
        ngram: usize,
        read: bool,
    ) -> Result<Vec<Vec<(f64, u32)>>> {
        let rows = self.state.hypotheses;
        let capacity = self.state.capacity;
        let newest: Vec<u32> = (0..rows).map(|n| sequences[n][step]).collect();
        let mut table = vec![0; rows * capacity];
        let mut banned = vec![NO_TOKEN; rows * capacity];
        for n in 0..rows {
            table[n * capacity..n * capacity + step + 1].copy_from_slice(&ancestry[n][..=step]);
            let list = repeated(&sequences[n], ngram);
            banned[n * capacity..n * capacity + list.len()].copy_from_slice(&list);
        }
        let mut parts = vec![
            (self.ids, Values::Index(newest.into())),
            (self.state.ancestry, Values::Index(table.into())),
        ];
        if ngram > 0 || step == 0 {
            parts.push((self.banned, Values::Index(banned.into())));
        }
        self.executor.upload_all(&parts, Purpose::Generation)?;
        let mut scalars = Scalars::default();
        scalars[Scalar::Step as usize] = step as u32;
        self.executor.run(self.plan, 0, scalars)?;
        if !read {
            return Ok(Vec::new());
        }
        let chosen = self.executor.read(&[self.chosen], Purpose::Generation)?;
        let pairs: Vec<(f64, u32)> = chosen[0]
            .chunks(2)
            .map(|pair| (f64::from(pair[0]), pair[1] as u32))
            .collect();
        if pairs.iter().any(|(score, _)| !score.is_finite()) {
            return Err(Error::Model(
                "the model gives probabilities that are not numbers".into(),
            ));
        }
        Ok(pairs.chunks(self.count).map(<[_]>::to_vec).collect())
    }

    /// Feeds the prompt and the forced tokens but the last; returns the
    /// sequence with all of them.
    fn feed_prompt(&mut self, options: &GenerationOptions) -> Result<Vec<u32>> {
        let whole = [options.prompt.clone(), options.forced.clone()].concat();
        let rows = self.state.hypotheses;
        let sequences = vec![whole.clone(); rows];
        let ancestry: Vec<Vec<u32>> = (0..rows as u32).map(|n| vec![n; whole.len()]).collect();
        for step in 0..whole.len() - 1 {
            self.step(step, &sequences, &ancestry, 0, false)?;
        }
        Ok(whole)
    }

    fn greedy(&mut self, end: u32, options: &GenerationOptions) -> Result<Generated> {
        let mut sequence = self.feed_prompt(options)?;
        let prompt = options.prompt.len();
        let mut sum = 0.0;
        let mut truncated = true;
        while sequence.len() < options.max_tokens {
            let step = sequence.len() - 1;
            let ancestry = vec![vec![0; step + 1]];
            let ngram = options.no_repeat_ngram_size;
            let candidates = self.step(step, &[sequence.clone()], &ancestry, ngram, true)?;
            let (score, token) = candidates[0][0];
            sum += score;
            sequence.push(token);
            if token == end {
                truncated = false;
                break;
            }
        }
        let tokens = sequence.split_off(prompt);
        let score = sum / (tokens.len() as f64).powf(options.length_penalty);
        Ok(Generated {
            tokens,
            score,
            truncated,
        })
    }

    fn beams(&mut self, end: u32, options: &GenerationOptions) -> Result<Generated> {
        let beams = options.beams;
        let prompt = options.prompt.len();
        let start = self.feed_prompt(options)?;
        let mut sequences = vec![start.clone(); beams];
        let mut ancestry: Vec<Vec<u32>> = (0..beams as u32).map(|n| vec![n; start.len()]).collect();
        // All beams are the same at first: only one of them counts.
        let mut sums = vec![-1e9; beams];
        sums[0] = 0.0;
        let mut finished: Vec<Generated> = Vec::new();
        let normalise =
            |sum: f64, length: usize| sum / (length as f64).powf(options.length_penalty);
        let keep = |finished: &mut Vec<Generated>, new: Generated| {
            finished.push(new);
            finished.sort_by(|a, b| b.score.total_cmp(&a.score));
            finished.truncate(beams);
        };
        loop {
            let step = sequences[0].len() - 1;
            let ngram = options.no_repeat_ngram_size;
            let candidates = self.step(step, &sequences, &ancestry, ngram, true)?;
            let mut all: Vec<(f64, usize, u32)> = Vec::new();
            for (n, row) in candidates.iter().enumerate() {
                all.extend(row.iter().map(|&(score, id)| (sums[n] + score, n, id)));
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            let mut next = Vec::new();
            let length = sequences[0].len() + 1 - prompt;
            for (rank, &(sum, n, id)) in all.iter().take(2 * beams).enumerate() {
                if id == end {
                    if rank < beams {
                        let mut tokens = sequences[n][prompt..].to_vec();
                        tokens.push(end);
                        let score = normalise(sum, length);
                        let truncated = false;
                        let new = Generated {
                            tokens,
                            score,
                            truncated,
                        };
                        keep(&mut finished, new);
                    }
                } else if next.len() < beams {
                    next.push((sum, n, id));
                }
            }
            // Too few candidates, in a vocabulary smaller than the search.
            while next.len() < beams {
                let filler = next.first().copied().unwrap_or((-1e9, 0, end));
                next.push((-1e9, filler.1, filler.2));
            }
            sequences = next
                .iter()
                .map(|&(_, n, id)| [sequences[n].as_slice(), &[id]].concat())
                .collect();
            ancestry = next
                .iter()
                .enumerate()
                .map(|(row, &(_, n, _))| [ancestry[n].as_slice(), &[row as u32]].concat())
                .collect();
            sums = next.iter().map(|&(sum, ..)| sum).collect();
            let best = all[0].0;
            let settled =
                finished.len() >= beams && finished[beams - 1].score >= normalise(best, length);
            if settled {
                break;
            }
            if sequences[0].len() >= options.max_tokens {
                for (sequence, &sum) in sequences.iter().zip(&sums) {
                    let tokens = sequence[prompt..].to_vec();
                    let score = normalise(sum, tokens.len());
                    let truncated = true;
                    let new = Generated {
                        tokens,
                        score,
                        truncated,
                    };
                    keep(&mut finished, new);
                }
                break;
            }
        }
        Ok(finished.swap_remove(0))
    }
}

/// Tokens that would complete an n-gram that the sequence already has.
fn repeated(sequence: &[u32], size: usize) -> Vec<u32> {
    if size == 0 || sequence.len() + 1 < size {
        return Vec::new();
    }
    let recent = &sequence[sequence.len() + 1 - size..];
    let mut banned: Vec<u32> = sequence
        .windows(size)
        .filter(|gram| gram[..size - 1] == *recent)
        .map(|gram| gram[size - 1])
        .collect();
    banned.sort_unstable();
    banned.dedup();
    banned
}

#[cfg(test)]
mod tests {
    use super::repeated;

    #[test]
    fn repeated_ngrams_are_found() {
        assert_eq!(repeated(&[1, 2, 3, 1, 2], 3), vec![3]);
        assert_eq!(repeated(&[1, 2, 3, 1, 2, 4, 1, 2], 3), vec![3, 4]);
        assert_eq!(repeated(&[1, 2], 3), Vec::<u32>::new());
        assert_eq!(repeated(&[5, 6], 1), vec![5, 6]);
        assert_eq!(repeated(&[5, 6], 0), Vec::<u32>::new());
    }
}
