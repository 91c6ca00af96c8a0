//! One sound on a device: its encoder output, and decoding steps over it.

use super::options::GenerationOptions;
use super::rules::{Bans, Ranges, bans, most_others, never};
use super::scores::{Place, best};
use super::{GENERATION, SearchTask};
use crate::engine::executor::{Executor, Inputs, PlanId, Values};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Kind, PersistentId, Scalars, Shape};
use crate::features::Features;
use crate::model::Model;
use crate::model::decoder::StepState;
use crate::model::encoded::Encoded;
use crate::ops::scalars::{FIRST_VARIANT, STEP};
use crate::ops::{Candidates, Draw, NO_TOKEN};
use crate::{Error, Result};

/// Cache sizes: a plan serves all sequences up to its capacity.
const CAPACITIES: [usize; 4] = [64, 128, 256, 448];

/// What the decoder needs of a sound: by layer, the keys and values of
/// cross-attention.
pub struct Heard {
    /// (1, T', 2A) each, A being the columns of all heads
    memories: Vec<PersistentId>,
    /// T'
    frames: usize,
}

impl Heard {
    /// Encodes a sound, unless that was done before.
    ///
    /// # Errors
    /// If the features do not fit the model or the device fails.
    pub fn encode(
        executor: &mut dyn Executor,
        model: &Model,
        features: &Features,
        encoded: Option<&Encoded>,
    ) -> Result<Self> {
        let mut recording = Recording::new(model.weights.clone());
        let mut uploaded = None;
        let output = match encoded {
            Some(encoded) => {
                let (id, shape) = encoded.output();
                recording.persistent(id, Kind::Real, shape)
            }
            None => {
                let shape = Shape::new(1, features.frames, features.bins);
                let mut inputs = Inputs::default();
                let own = inputs.real(executor, shape, &features.data)?;
                inputs.send(executor, GENERATION)?;
                uploaded = Some(own);
                let x = recording.persistent(own, Kind::Real, shape);
                model.encoder.record(&mut recording, x)?
            }
        };
        let mut memories = Vec::new();
        for memory in model.decoder.record_memories(&mut recording, output)? {
            let id = executor.allocate(Kind::Real, recording.shape(memory))?;
            recording.keep(memory, id);
            memories.push(id);
        }
        let plan = executor.prepare(recording)?;
        let done = executor.run(plan, 0, &Scalars::ZERO);
        executor.release(plan);
        if let Some(own) = uploaded {
            executor.free(own);
        }
        done?;
        Ok(Self {
            memories,
            frames: model.encoder.encoder_frames(features.frames),
        })
    }
}

/// How a hypothesis may go on.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Natural logarithm of its probability.
    pub log_probability: f64,
    pub id: u32,
    /// Natural logarithm of the probability of all that the rules leave; 0
    /// without fallback.
    pub all_left: f64,
}

/// Where the rules leave too few, as the operator gives it.
const NO_CANDIDATE: Candidate = Candidate {
    log_probability: -1e30,
    id: 0,
    all_left: 0.0,
};

fn no_numbers() -> Error {
    Error::Model("the model gives probabilities that are not numbers".into())
}

/// A plan for decoding steps of N hypotheses.
pub struct Session<'a> {
    executor: &'a mut dyn Executor,
    state: StepState,
    plan: PlanId,
    /// (N, 1, 1)
    ids: PersistentId,
    /// (N, M, 1)
    banned: PersistentId,
    /// M
    most_banned: usize,
    /// (N, 1, 5)
    ranges: PersistentId,
    /// (N, count, 3); (N, 1, V) where whole rows of logits are read
    chosen: PersistentId,
    count: usize,
    /// V
    vocabulary: usize,
    /// Most tokens of a sequence.
    limit: usize,
    /// Number of the sequence among those that are drawn.
    stream: usize,
}

/// Which tokens a session gives.
struct Choosing<'a> {
    /// Candidates of a hypothesis.
    count: usize,
    /// Most tokens that a step bans.
    most_banned: usize,
    /// Whether the model may write times.
    times: bool,
    with_left: bool,
    /// Whether whole rows of logits are read, since rules change them.
    whole: bool,
    draw: Option<Draw>,
    allowed: &'a dyn Fn(u32) -> bool,
}

impl<'a> Session<'a> {
    /// Prepares the decoding steps of a search. With `draw` tokens are drawn, for
    /// each `stream` others.
    ///
    /// # Errors
    /// If the device fails.
    pub fn start(
        executor: &'a mut dyn Executor,
        task: SearchTask,
        draw: Option<Draw>,
        stream: usize,
    ) -> Result<Self> {
        let SearchTask {
            model,
            heard,
            options,
            limit,
            ..
        } = task;
        let never = never(options);
        let allowed = |id: u32| !never.contains(&id);
        let beams = options.beams;
        let choosing = Choosing {
            count: options.candidates(),
            whole: !options.scores.are_none(),
            most_banned: limit + most_others(options),
            times: options.writes_times().is_some(),
            with_left: options.fallback.is_some() || options.judges_silence,
            draw,
            allowed: &allowed,
        };
        let mut session = Self::prepare(executor, model, heard, beams, limit, choosing)?;
        session.stream = stream;
        Ok(session)
    }

    /// The likeliest of some tokens after one start token.
    ///
    /// # Errors
    /// If the device fails.
    pub fn likeliest_of(
        executor: &mut dyn Executor,
        model: &Model,
        heard: &Heard,
        start: u32,
        tokens: &[u32],
    ) -> Result<u32> {
        let allowed = |id: u32| tokens.contains(&id);
        Ok(Self::first(executor, model, heard, start, &allowed)?.id)
    }

    /// The probability of a token after one start token.
    ///
    /// # Errors
    /// If the device fails.
    pub fn probability_of(
        executor: &mut dyn Executor,
        model: &Model,
        heard: &Heard,
        start: u32,
        token: u32,
    ) -> Result<f64> {
        let allowed = |id: u32| id == token;
        let found = Self::first(executor, model, heard, start, &allowed)?;
        Ok(found.log_probability.exp())
    }

    /// The likeliest token after one start token.
    fn first(
        executor: &mut dyn Executor,
        model: &Model,
        heard: &Heard,
        start: u32,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Candidate> {
        let choosing = Choosing {
            count: 1,
            most_banned: 1,
            times: false,
            with_left: false,
            whole: false,
            draw: None,
            allowed,
        };
        let mut session = Session::prepare(executor, model, heard, 1, 1, choosing)?;
        session.upload(&[(&[start], &[0])], &[Vec::new()], &[Ranges::NONE])?;
        session.run(0)?;
        Ok(session.candidates()?[0][0])
    }

    fn prepare(
        executor: &'a mut dyn Executor,
        model: &Model,
        heard: &Heard,
        beams: usize,
        limit: usize,
        choosing: Choosing,
    ) -> Result<Self> {
        let config = &model.decoder.config;
        let capacity = CAPACITIES
            .into_iter()
            .find(|&capacity| capacity >= limit)
            .unwrap_or(limit);
        let words = Shape::new(1, 1, config.vocabulary);
        let table =
            (0..config.vocabulary as u32).map(|id| f32::from(u8::from((choosing.allowed)(id))));
        let mut inputs = Inputs::default();
        let allowed = inputs.real(executor, words, table.collect::<Vec<f32>>())?;
        inputs.send(executor, GENERATION)?;
        let cache = Shape::new(beams, capacity, 2 * config.attention_width());
        let caches = (0..config.layers)
            .map(|_| executor.allocate(Kind::Real, cache))
            .collect::<Result<_>>()?;
        let list = Shape::new(beams, capacity, 1);
        let state = StepState {
            caches,
            memories: heard.memories.clone(),
            ancestry: executor.allocate(Kind::Index, list)?,
            hypotheses: beams,
            capacity,
            encoder_frames: heard.frames,
        };
        let mut index = |rows, cols| executor.allocate(Kind::Index, Shape::new(beams, rows, cols));
        let most_banned = choosing.most_banned;
        let (ids, banned, ranges) = (index(1, 1)?, index(most_banned, 1)?, index(1, 5)?);
        let count = choosing.count.min(config.vocabulary);
        let chosen_shape = match choosing.whole {
            true => Shape::new(beams, 1, config.vocabulary),
            false => Shape::new(beams, count, 3),
        };
        let chosen = executor.allocate(Kind::Real, chosen_shape)?;

        let mut recording = Recording::new(model.weights.clone());
        let r = &mut recording;
        let tokens = r.persistent(ids, Kind::Index, Shape::new(beams, 1, 1));
        let logits = model.decoder.record_step(r, tokens, &state)?;
        if choosing.whole {
            r.keep(logits, chosen);
        } else {
            let log_probabilities = r.log_softmax(logits);
            let operator = Candidates {
                log_probabilities,
                allowed: r.persistent(allowed, Kind::Real, words),
                banned: r.persistent(banned, Kind::Index, Shape::new(beams, most_banned, 1)),
                ranges: r.persistent(ranges, Kind::Index, Shape::new(beams, 1, 5)),
                times: choosing.times,
                count,
                with_left: choosing.with_left,
                draw: choosing.draw,
                chosen: r.persistent(chosen, Kind::Real, chosen_shape),
            };
            r.push(operator);
        }
        let plan = executor.prepare(recording)?;
        Ok(Self {
            executor,
            state,
            plan,
            ids,
            banned,
            most_banned,
            ranges,
            chosen,
            count,
            vocabulary: config.vocabulary,
            limit,
            stream: 0,
        })
    }

    /// Feeds a sequence but its last token to all hypotheses.
    ///
    /// # Errors
    /// If the device fails.
    pub fn feed(&mut self, sequence: &[u32]) -> Result<()> {
        let rows = self.state.hypotheses;
        let free = vec![Vec::new(); rows];
        for step in 0..sequence.len() - 1 {
            let ancestry: Vec<Vec<u32>> = (0..rows as u32).map(|n| vec![n; step + 1]).collect();
            let fed = &sequence[..=step];
            let hypotheses: Vec<(&[u32], &[u32])> =
                ancestry.iter().map(|own| (fed, own.as_slice())).collect();
            self.upload(&hypotheses, &free, &vec![Ranges::NONE; rows])?;
            self.run(step)?;
        }
        Ok(())
    }

    /// Runs one step: every hypothesis (sequence and ancestry) gets its newest
    /// token and gives its best candidates.
    ///
    /// # Errors
    /// If the device fails or the model's probabilities are no numbers.
    pub fn step(
        &mut self,
        options: &GenerationOptions,
        hypotheses: &[(&[u32], &[u32])],
        prompt: usize,
    ) -> Result<Vec<Vec<Candidate>>> {
        let bans: Vec<Bans> = hypotheses
            .iter()
            .map(|(sequence, _)| bans(options, sequence, prompt))
            .collect();
        let (tokens, ranges): (Vec<_>, Vec<_>) = bans
            .iter()
            .map(|bans| ([bans.tokens.as_slice(), &bans.first].concat(), bans.ranges))
            .unzip();
        self.upload(hypotheses, &tokens, &ranges)?;
        self.run(hypotheses[0].0.len() - 1)?;
        if options.scores.are_none() {
            return self.candidates();
        }
        let logits = self.executor.read(&[self.chosen], GENERATION)?;
        if !logits[0].iter().all(|logit| logit.is_finite()) {
            return Err(no_numbers());
        }
        let rows = logits[0].chunks(self.vocabulary).zip(hypotheses).zip(&bans);
        let candidates = rows.map(|((row, (sequence, _)), bans)| {
            let place = Place {
                sequence,
                prompt,
                limit: self.limit,
            };
            let mut own = best(options, row, place, bans, self.count).ok_or_else(no_numbers)?;
            own.resize(self.count, NO_CANDIDATE);
            Ok(own)
        });
        candidates.collect()
    }

    fn upload(
        &mut self,
        hypotheses: &[(&[u32], &[u32])],
        bans: &[Vec<u32>],
        ranges: &[Ranges],
    ) -> Result<()> {
        let (capacity, most) = (self.state.capacity, self.most_banned);
        let newest = hypotheses
            .iter()
            .filter_map(|(sequence, _)| sequence.last());
        let newest: Vec<u32> = newest.copied().collect();
        let mut table = vec![0; hypotheses.len() * capacity];
        let mut banned = vec![NO_TOKEN; hypotheses.len() * most];
        for (n, ((_, ancestry), bans)) in hypotheses.iter().zip(bans).enumerate() {
            table[n * capacity..][..ancestry.len()].copy_from_slice(ancestry);
            banned[n * most..][..bans.len()].copy_from_slice(bans);
        }
        let ranges: Vec<u32> = ranges.iter().flat_map(|ranges| ranges.numbers()).collect();
        let parts = [
            (self.ids, Values::Index(newest.into())),
            (self.state.ancestry, Values::Index(table.into())),
            (self.banned, Values::Index(banned.into())),
            (self.ranges, Values::Index(ranges.into())),
        ];
        self.executor.upload_all(&parts, GENERATION)
    }

    fn run(&mut self, step: usize) -> Result<()> {
        let scalars = Scalars::ZERO.with(STEP, step as u32);
        let scalars = scalars.with(FIRST_VARIANT, self.stream as u32);
        self.executor.run(self.plan, 0, &scalars)
    }

    /// By hypothesis: its best candidates, best first.
    fn candidates(&mut self) -> Result<Vec<Vec<Candidate>>> {
        let chosen = self.executor.read(&[self.chosen], GENERATION)?;
        let candidates: Vec<Candidate> = chosen[0]
            .chunks(3)
            .map(|own| Candidate {
                log_probability: f64::from(own[0]),
                id: own[1] as u32,
                all_left: f64::from(own[2]),
            })
            .collect();
        let finite = |own: &Candidate| own.log_probability.is_finite() && own.all_left.is_finite();
        if !candidates.iter().all(finite) {
            return Err(no_numbers());
        }
        Ok(candidates.chunks(self.count).map(<[_]>::to_vec).collect())
    }
}
