//! A request for maps.

use super::{Heard, Input, Listener, needed};
use crate::explain::{ExplainOptions, Maps, Method, Progress, Site, Subject, explain};
use crate::{Error, Result};

/// What is to be explained and how; made by [`Listener::explain`].
#[must_use = "nothing is computed until `run`"]
pub struct Explaining<'a> {
    listener: &'a mut Listener,
    input: Input,
    heard: Heard,
    options: ExplainOptions,
    watch: Box<dyn FnMut(Progress) -> bool + 'a>,
}

/// One site or several.
#[derive(Clone, Debug)]
pub struct Sites(Vec<Site>);

impl From<Site> for Sites {
    fn from(site: Site) -> Self {
        Self(vec![site])
    }
}

impl<const N: usize> From<[Site; N]> for Sites {
    fn from(sites: [Site; N]) -> Self {
        Self(sites.into())
    }
}

impl From<Vec<Site>> for Sites {
    fn from(sites: Vec<Site>) -> Self {
        Self(sites)
    }
}

impl<'a> Explaining<'a> {
    pub(super) fn new(listener: &'a mut Listener, input: Input, heard: &Heard) -> Self {
        Self {
            listener,
            input,
            heard: heard.clone(),
            options: ExplainOptions::default(),
            watch: Box::new(|_| true),
        }
    }

    /// Which methods; attention and gradients if it is not said. Each counts
    /// once.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.options.methods = methods.into_iter().collect();
        self
    }

    /// Where gradients are taken and masks put; the input and the encoder's
    /// output if it is not said. Maps of the attention are always at
    /// [`Site::Decoder`].
    pub fn at(mut self, sites: impl Into<Sites>) -> Self {
        self.options.sites = sites.into().0;
        self
    }

    /// Some of the tokens only, counted from 0.
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = usize>) -> Self {
        self.options.tokens = tokens.into_iter().collect();
        self
    }

    /// All that can be said; replaces what was said before.
    pub fn options(mut self, options: ExplainOptions) -> Self {
        self.options = options;
        self
    }

    /// Who is told of masks and gradients, and returns whether to go on.
    /// Stopped masks give a map of those that were scored; stopped gradients
    /// are an error of kind [`Stopped`](crate::ErrorKind::Stopped).
    pub fn watch(mut self, watch: impl FnMut(Progress) -> bool + 'a) -> Self {
        self.watch = Box::new(watch);
        self
    }

    /// Computes the maps.
    ///
    /// # Errors
    /// If the sound or the text does not fit the model, a method has no map at
    /// any of the sites, the device fails, or the work was stopped where
    /// nothing can be shown.
    pub fn run(self) -> Result<Maps> {
        let Self {
            listener,
            input,
            heard,
            mut options,
            mut watch,
        } = self;
        once_each(&mut options.methods);
        once_each(&mut options.sites);
        if options.methods.is_empty() {
            return Err(Error::Input("there is no method to explain by".into()));
        }
        let said = heard.said_by(listener.fingerprint)?;
        let model = &listener.model;
        let tokenizer = needed(listener.tokenizer.as_ref(), model)?;
        let features = listener.ears.hear_at_once(model, &input)?;
        let executor = listener.machine.open(model)?;
        let encoded = listener.encoded.take();
        let subject = Subject {
            file: input.name().to_owned(),
            seconds: input.seconds(model.encoder.frame_seconds()),
            fingerprint: input.fingerprint(),
            warnings: input.warnings(),
            features,
            encoded: encoded.as_ref(),
            prompt: &said.prompt,
            tokens: &said.tokens,
        };
        let watch = watch.as_mut();
        let maps = explain(executor, model, tokenizer, &subject, &options, watch);
        if let Some(encoded) = encoded {
            encoded.free(executor);
        }
        let scale = listener.ears.front_end.mel_scale();
        let maps = maps?.with_mel_scale(scale);
        match input.sound() {
            Some(sound) => maps.with_sound(sound),
            None => Ok(maps),
        }
    }
}

/// Leaves out what is there already.
fn once_each<T: PartialEq + Copy>(all: &mut Vec<T>) {
    let mut each: Vec<T> = Vec::new();
    all.retain(|one| {
        let fresh = !each.contains(one);
        each.push(*one);
        fresh
    });
}
