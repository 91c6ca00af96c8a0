//! What to explain and how. A method's options are one type, in its file;
//! here is what an explanation as a whole is told.

use super::method::{Method, Site};
use super::methods::integrated_gradients::IntegratedGradientsOptions;
use super::methods::smoothgrad::SmoothGradOptions;
use super::spes::SpesOptions;
use crate::{Error, Result};

/// What to compute and how.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExplainOptions {
    pub methods: Vec<Method>,
    /// Where gradients are taken and masks put; methods of the attention have
    /// a site of their own.
    pub sites: Vec<Site>,
    /// Which of the tokens to explain, counted from 0; all if empty.
    pub tokens: Vec<usize>,
    /// Whether it is found out when words were said, which takes a pass more
    /// where the map that tells it best is none of those wanted.
    pub timed: bool,
    /// Seed of everything random.
    pub seed: u64,
    /// Bytes a pass may take beside the weights.
    pub memory: usize,
    pub integrated_gradients: IntegratedGradientsOptions,
    pub smoothgrad: SmoothGradOptions,
    pub spes: SpesOptions,
}

impl Default for ExplainOptions {
    fn default() -> Self {
        Self {
            methods: vec![Method::Attention, Method::Gradient],
            sites: vec![Site::Input, Site::Encoder],
            tokens: Vec::new(),
            timed: true,
            seed: 0,
            memory: 1 << 30,
            integrated_gradients: IntegratedGradientsOptions::default(),
            smoothgrad: SmoothGradOptions::default(),
            spes: SpesOptions::default(),
        }
    }
}

impl ExplainOptions {
    /// Every wanted map but those of the attention, in the order of the
    /// options.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Method, Site)> {
        let methods = self.methods.iter().copied();
        let methods = methods.filter(|method| !method.is_attention());
        let all = methods.flat_map(|method| self.sites.iter().map(move |&site| (method, site)));
        all.filter(|(method, site)| method.works_at(*site))
    }

    /// Refuses a method that has no map at any of the sites, and options that
    /// no map can be made with.
    ///
    /// # Errors
    /// If there is such a method or option.
    pub(super) fn check(&self) -> Result<()> {
        for &method in &self.methods {
            let some = self.sites.iter().any(|&site| method.works_at(site));
            if !method.is_attention() && !some {
                let names = |sites: &[Site]| match sites {
                    [] => "no site".to_owned(),
                    sites => sites
                        .iter()
                        .map(|site| site.name())
                        .collect::<Vec<_>>()
                        .join(" and "),
                };
                let own = Site::ALL.into_iter().filter(|&site| method.works_at(site));
                return Err(Error::Input(format!(
                    "{method} has no map at {}; it has at {}",
                    names(&self.sites),
                    names(&own.collect::<Vec<_>>())
                )));
            }
        }
        self.integrated_gradients.check()?;
        self.smoothgrad.check()?;
        self.spes.check()
    }
}
