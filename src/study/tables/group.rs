//! The rows of one model in one direction.

use std::collections::{BTreeMap, BTreeSet};

use super::super::checks::{Checked, SeedAgreement};
use super::super::faithfulness::{Curve, Curves, Measure, STEP_PERCENT, STEPS, Written, area};
use super::super::map_name::MapName;
use super::super::perturbation::{Foretelling, PERCENTS};
use super::super::record::{MapResult, Utterance};
use super::super::statistics::{
    Correlation, Interval, RESAMPLES, RESAMPLES_OF_CURVES, SEED, bootstrap, bootstrap_of,
    disattenuated, mean,
};
use super::{Attention, Row, Statistic, View, Weighting, onsets};

/// The utterances of one model in one direction, and where their rows go.
pub(super) struct Group<'a> {
    model: &'a str,
    direction: &'a str,
    pub(super) utterances: &'a [&'a Utterance],
    rows: &'a mut Vec<Row>,
}

impl<'a> Group<'a> {
    pub(super) fn new(
        model: &'a str,
        direction: &'a str,
        utterances: &'a [&'a Utterance],
        rows: &'a mut Vec<Row>,
    ) -> Self {
        Self {
            model,
            direction,
            utterances,
            rows,
        }
    }

    /// All rows, in the order of the tables.
    pub(super) fn all(&mut self) {
        for weighting in Weighting::ALL {
            self.correlations(weighting);
        }
        self.written();
        self.curves();
        self.foretelling();
        self.checks();
        onsets::rows(self);
        self.gap_and_coverage();
    }

    fn push(
        &mut self,
        map: Option<MapName>,
        statistic: Statistic,
        attention: Option<Attention>,
        interval: Interval,
    ) {
        let Interval {
            mean,
            low,
            high,
            count,
        } = interval;
        self.rows.push(Row {
            model: self.model.to_owned(),
            direction: self.direction.to_owned(),
            map,
            statistic,
            attention,
            mean,
            low,
            high,
            utterances: count,
        });
    }

    /// A mean over the utterances for which it is defined; no row if it is for
    /// none.
    fn row(
        &mut self,
        map: MapName,
        statistic: Statistic,
        attention: Option<Attention>,
        values: &[Option<f64>],
    ) {
        if let Some(interval) = bootstrap(values, RESAMPLES, SEED) {
            self.push(Some(map), statistic, attention, interval);
        }
    }

    /// A value over some items together, one of each utterance that has any,
    /// with the interval that resampling them gives; no row without items.
    pub(super) fn corpus_row<T: Copy>(
        &mut self,
        map: Option<MapName>,
        statistic: Statistic,
        attention: Option<Attention>,
        items: &[T],
        value: &dyn Fn(&[T]) -> f64,
    ) {
        if let Some(interval) = bootstrap_of(items, RESAMPLES_OF_CURVES, SEED, value) {
            self.push(map, statistic, attention, interval);
        }
    }

    /// Correlations of one attention with every map.
    fn correlations(&mut self, weighting: Weighting) {
        let utterances = self.utterances;
        let named = utterances.iter().flat_map(|&own| maps(own, weighting));
        let examples: BTreeMap<&MapName, &MapResult> = named.collect();
        for (&name, example) in examples {
            let results = utterances
                .iter()
                .map(|&own| maps(own, weighting).get(&name));
            let results: Vec<Option<&MapResult>> = results.collect();
            let of = |value: &dyn Fn(&MapResult) -> Option<f64>| -> Vec<Option<f64>> {
                let results = results.iter();
                results.map(|result| value(result.as_ref()?)).collect()
            };
            if weighting == Weighting::Plain {
                let reliability = of(&|result| result.reliability);
                self.row(name, Statistic::Reliability, None, &reliability);
                let masks = of(&|result| Some(result.masks? as f64));
                self.row(name, Statistic::Masks, None, &masks);
            }
            for kind in Correlation::ALL {
                for view in views(example) {
                    let attention = Some(Attention::View(weighting, view));
                    let statistic = |corrected| Statistic::Correlation { kind, corrected };
                    let values = of(&|result| correlation(result, kind, view));
                    self.row(name, statistic(false), attention, &values);
                    let corrected = of(&|result| {
                        disattenuated(correlation(result, kind, view)?, result.reliability?)
                    });
                    self.row(name, statistic(true), attention, &corrected);
                }
            }
        }
    }

    /// What mixing in the encoder takes away, and how much of the explanation
    /// at its output attention is.
    fn gap_and_coverage(&mut self) {
        let rho = |utterance: &Utterance, map: MapName| {
            correlation(utterance.maps.get(&map)?, Correlation::Pearson, View::All)
        };
        let utterances = self.utterances.iter();
        let pairs: Vec<[Option<f64>; 2]> = utterances
            .map(|own| [rho(own, MapName::ENCODER), rho(own, MapName::INPUT)])
            .collect();
        let gaps: Vec<Option<f64>> = pairs.iter().map(|&[h, x]| Some(h? - x?)).collect();
        let coverage: Vec<Option<f64>> = pairs.iter().map(|&[h, _]| Some(100.0 * h?)).collect();
        let all = Some(Attention::ALL);
        self.row(MapName::EncoderLessInput, Statistic::Gap, all, &gaps);
        self.row(MapName::ENCODER, Statistic::Coverage, all, &coverage);
    }

    /// Errors of what the model wrote, where it is known what was to be written.
    fn written(&mut self) {
        let all = self.utterances.iter().copied();
        let known: Vec<&Utterance> = all.filter(|own| own.has_reference()).collect();
        for measure in Measure::ALL {
            self.corpus_row(None, Statistic::Written(measure), None, &known, &|all| {
                measure.of(all.iter().map(|own| own.written))
            });
        }
    }

    /// Areas under the curves, and the curves themselves.
    fn curves(&mut self) {
        let utterances = self.utterances;
        let keys = utterances.iter().flat_map(|own| own.faithfulness.keys());
        for name in BTreeSet::from_iter(keys.copied()) {
            // Whoever has none is drawn all the same, and adds nothing.
            let sizes: Vec<Option<&Curves>> = {
                let all = utterances.iter();
                all.map(|own| own.faithfulness.get(&name)).collect()
            };
            let known = utterances.iter().map(|own| own.has_reference());
            let own = sizes.iter().zip(known);
            let own = own.map(|(own, known)| own.filter(|_| known));
            let mut own: Vec<Option<&Curves>> = own.collect();
            if own.iter().all(Option::is_none) {
                own.clear();
            }
            let name = Some(name);
            for curve in Curve::ALL {
                for measure in Measure::ALL {
                    let at = |all: &[Option<&Curves>], step: usize| {
                        height(measure, all.iter().flatten().map(|own| own.of(curve)[step]))
                    };
                    let statistic = Statistic::Area { curve, measure };
                    self.corpus_row(name, statistic, None, &own, &|all| {
                        area(&(0..STEPS).map(|step| at(all, step)).collect::<Vec<_>>())
                    });
                    for step in 0..STEPS {
                        let statistic = Statistic::Point {
                            curve,
                            percent: step * STEP_PERCENT,
                            measure,
                        };
                        self.corpus_row(name, statistic, None, &own, &|all| at(all, step));
                    }
                }
            }
            self.corpus_row(name, Statistic::SizeArea, None, &sizes, &|all| {
                let areas = all.iter().flatten().map(|curves| area(&curves.size));
                let areas: Vec<f64> = areas.collect();
                areas.iter().sum::<f64>() / areas.len() as f64
            });
        }
    }

    /// Infidelity and sensitivity-n of every map.
    fn foretelling(&mut self) {
        let utterances = self.utterances;
        let keys = utterances.iter().flat_map(|own| own.perturbation.keys());
        for name in BTreeSet::from_iter(keys.copied()) {
            let of = |value: &dyn Fn(&Foretelling) -> Option<f64>| -> Vec<Option<f64>> {
                let all = utterances.iter();
                all.map(|own| value(own.perturbation.get(&name)?)).collect()
            };
            let infidelity = |share| Statistic::Infidelity { share };
            self.row(name, infidelity(false), None, &of(&|own| own.infidelity));
            let share = of(&|own| own.infidelity_share);
            self.row(name, infidelity(true), None, &share);
            for (n, percent) in PERCENTS.into_iter().enumerate() {
                let values = of(&|own| *own.sensitivity.get(n)?);
                self.row(name, Statistic::Sensitivity { percent }, None, &values);
            }
            let average = of(&|own| mean(own.sensitivity.iter().copied()));
            self.row(name, Statistic::SensitivityMean, None, &average);
        }
    }

    /// Agreement of seeds, and with the maps of shuffled models.
    fn checks(&mut self) {
        let checks = self.utterances.iter().filter_map(|own| own.checks.as_ref());
        let checks: Vec<&Checked> = checks.collect();
        let maps = checks.iter().flat_map(|own| own.seeds.keys());
        for map in BTreeSet::from_iter(maps.copied()) {
            let of = |value: &dyn Fn(&SeedAgreement) -> Option<f64>| -> Vec<Option<f64>> {
                let all = checks.iter();
                all.map(|own| value(own.seeds.get(&map)?)).collect()
            };
            let statistic = |full_resolution| Statistic::SeedAgreement { full_resolution };
            self.row(map, statistic(false), None, &of(&|own| own.pooled));
            self.row(map, statistic(true), None, &of(&|own| own.full));
        }
        let levels = checks.iter().flat_map(|own| own.randomised.keys());
        for level in BTreeSet::from_iter(levels.copied()) {
            let randomised = || checks.iter().filter_map(|own| own.randomised.get(&level));
            let maps = randomised().flat_map(BTreeMap::keys);
            for map in BTreeSet::from_iter(maps.copied()) {
                let values: Vec<Option<f64>> = randomised().map(|own| *own.get(&map)?).collect();
                self.row(map, Statistic::Randomised(level), None, &values);
            }
        }
    }
}

/// A curve's height; errors beyond the last word count as all words.
fn height(measure: Measure, written: impl Iterator<Item = Written>) -> f64 {
    match measure {
        Measure::WordErrorRate => measure.of(written).min(100.0),
        Measure::Bleu => measure.of(written),
    }
}

fn maps(utterance: &Utterance, weighting: Weighting) -> &BTreeMap<MapName, MapResult> {
    match weighting {
        Weighting::Plain => &utterance.maps,
        Weighting::Norm => &utterance.maps_of_norms,
        Weighting::Gradient => &utterance.maps_of_gradients,
    }
}

/// The correlation of a part of an attention.
fn correlation(result: &MapResult, kind: Correlation, view: View) -> Option<f64> {
    let own = result.correlations.get(&kind)?;
    match view {
        View::All => own.all,
        View::Layer(l) => *own.layers.get(l)?,
        View::AcrossLayers(h) => *own.across_layers.get(h)?,
        View::Head([l, h]) => *own.heads.get(l)?.get(h)?,
    }
}

/// All parts of an attention like that of `example`.
fn views(example: &MapResult) -> Vec<View> {
    let mut views = vec![View::All];
    let Some(own) = example.correlations.values().next() else {
        return views;
    };
    views.extend((0..own.layers.len()).map(View::Layer));
    views.extend((0..own.across_layers.len()).map(View::AcrossLayers));
    for (l, layer) in own.heads.iter().enumerate() {
        views.extend((0..layer.len()).map(|h| View::Head([l, h])));
    }
    views
}
