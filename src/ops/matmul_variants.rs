//! Kernels for products, and which of them may be the fastest: tiles of several
//! sizes, and matrix units.

use std::ops::Range;
use std::sync::Arc;

use super::{Layout, Matmul, Operate, Windows};
use crate::engine::gpu::extras::{Extra, Extras};
use crate::engine::gpu::launch::{Binding, Extent, Launch};
use crate::engine::gpu::shaders::Shader;
use crate::engine::gpu::units::MatrixUnits;
use crate::engine::gpu::variants::{Choice, Class, Trial, Variant};
use crate::engine::recording::Recording;
use crate::engine::tensor::{Shape, TensorId};

/// Sizes from which on products are of one class: by then they are many tiles
/// and many chunks of inputs, and measuring larger ones would take long.
const MOST_ROWS: usize = 2048;
const MOST_INPUTS: usize = 1024;
const MOST_OUTPUTS: usize = 2048;

/// Inputs and outputs up to which products are of one class.
const FEWEST: usize = 16;

/// An entry point of the shader.
struct Entry {
    name: &'static str,
    /// The shader's constants for the rows and columns of a tile.
    rows: &'static str,
    columns: &'static str,
    /// Whether it reads x and the weight by four columns at a time.
    quads: bool,
}

const fn entry(name: &'static str, rows: &'static str, columns: &'static str) -> Entry {
    Entry {
        name,
        rows,
        columns,
        quads: false,
    }
}

const LARGE: Entry = entry("forward_large", "LARGE_TILE", "LARGE_TILE");
const MEDIUM: Entry = entry("forward", "TILE", "TILE");
const QUADS: Entry = Entry {
    quads: true,
    ..entry("forward_quads", "TILE", "TILE")
};
const SMALL: Entry = entry("forward_small", "SMALL_TILE", "SMALL_TILE");
const THIN: Entry = entry("forward_thin", "THIN_ROWS", "THIN_TILE");

const ENTRIES: [Entry; 5] = [LARGE, MEDIUM, QUADS, SMALL, THIN];

impl Entry {
    /// Workgroups for a product: (across, down).
    fn workgroups(&self, rows: usize, outputs: usize) -> (usize, usize) {
        let shader = Shader::load(Matmul::NAME);
        let across = outputs.div_ceil(shader.constant(self.columns) as usize);
        (across, rows.div_ceil(shader.constant(self.rows) as usize))
    }
}

/// Workgroups from which on a GPU is taken to be busy: a device has some tens
/// of cores.
const BUSY_WORKGROUPS: usize = 64;

/// What is taken where nothing is known of the device: the entry point with
/// the largest tiles, which do the most work for every number they read, that
/// are at least half full and keep a GPU busy.
fn guess(rows: usize, outputs: usize) -> &'static str {
    let shader = Shader::load(Matmul::NAME);
    let best = [LARGE, MEDIUM].into_iter().find(|entry| {
        let (across, down) = entry.workgroups(rows, outputs);
        let full = 2 * rows.min(outputs) > shader.constant(entry.rows) as usize;
        full && across * down >= BUSY_WORKGROUPS
    });
    best.unwrap_or(SMALL).name
}

/// Products that are taken to be fastest with one and the same entry point:
/// sizes up to the next power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductClass {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// How the weight lies in memory.
    pub layout: Layout,
    /// Whether columns in memory come in fours.
    pub quads: bool,
}

impl ProductClass {
    /// The class of a product of these sizes.
    pub fn new(rows: usize, inputs: usize, outputs: usize, layout: Layout, quads: bool) -> Self {
        let up = |size: usize, most: usize| size.min(most).next_power_of_two();
        Self {
            rows: up(rows, MOST_ROWS),
            inputs: up(inputs.max(FEWEST), MOST_INPUTS),
            outputs: up(outputs.max(FEWEST), MOST_OUTPUTS),
            layout,
            quads,
        }
    }
}

impl Class for ProductClass {
    /// `matmul 512x256x1024 out-in by four`
    fn key(&self) -> String {
        let Self {
            rows,
            inputs,
            outputs,
            ..
        } = self;
        let layout = match self.layout {
            Layout::InOut => "in-out",
            Layout::OutIn => "out-in",
        };
        let quads = if self.quads { " by four" } else { "" };
        format!("{} {rows}x{inputs}x{outputs} {layout}{quads}", Matmul::NAME)
    }

    fn candidates(&self) -> Vec<&'static str> {
        let shader = Shader::load(Matmul::NAME);
        let worth = ENTRIES.iter().filter(|entry| {
            let tall = shader.constant(entry.rows) as usize;
            let wide = shader.constant(entry.columns) as usize;
            // Not where most of a large tile would be empty, nor a thin one
            // for rows that would read the weight again and again.
            let full = 2 * self.rows >= tall && 2 * self.outputs >= wide;
            let fits = match tall < wide {
                true => self.rows <= 4 * tall,
                false => full || entry.name == SMALL.name,
            };
            fits && (self.quads || !entry.quads)
        });
        let mut names: Vec<_> = worth.map(|entry| entry.name).collect();
        let guess = guess(self.rows, self.outputs);
        names.sort_by_key(|name| *name != guess);
        names
    }

    fn trial(&self) -> Trial {
        product(self.rows, self.inputs, self.outputs, self.layout)
    }
}

/// A product and nothing after it.
fn product(rows: usize, inputs: usize, outputs: usize, layout: Layout) -> Trial {
    let weight = match layout {
        Layout::InOut => Shape::new(1, inputs, outputs),
        Layout::OutIn => Shape::new(1, outputs, inputs),
    };
    Trial {
        inputs: vec![Shape::new(1, rows, inputs)],
        matrices: vec![weight],
        record: Box::new(move |recording, inputs, matrices| {
            let product = recording.matmul(inputs[0], matrices[0]).layout(layout);
            Ok(vec![product.record()?])
        }),
    }
}

/// Products of the forward layout: one chunk of inputs, many, and parts of
/// tiles and chunks in every direction.
pub fn trials() -> Vec<Trial> {
    let sizes = [[64, 32, 64], [65, 33, 130], [200, 100, 97], [40, 1000, 70]];
    sizes
        .map(|[rows, inputs, outputs]| product(rows, inputs, outputs, Layout::OutIn))
        .into()
}

/// A block of the weight's rows, and the inputs and outputs that it has.
pub struct Part {
    pub block: Range<usize>,
    pub inputs: Range<usize>,
    pub outputs: Range<usize>,
}

impl Matmul {
    /// The product with one part of the weight by every kernel that can do it
    /// on a device with these extras.
    pub(super) fn choice(
        &self,
        recording: &Recording,
        live: &dyn Fn(TensorId) -> bool,
        part: &Part,
        extras: Extras,
    ) -> Choice {
        let (x, y) = (recording.shape(self.x), recording.shape(self.y));
        let (rows, inputs, outputs) = (y.lead * y.rows, &part.inputs, &part.outputs);
        // Columns of x and of the weight as they lie in memory.
        let columns = match self.layout {
            Layout::InOut => outputs.len(),
            Layout::OutIn => inputs.len(),
        };
        let fours = [x.cols, inputs.start, inputs.len(), columns];
        let quads = fours.iter().all(|count| count.is_multiple_of(4));
        let guess = guess(rows, outputs.len());
        let fitting = ENTRIES.iter().filter(|entry| quads || !entry.quads);
        let mut variants: Vec<Variant> = fitting
            .map(|entry| self.tiled(recording, live, part, entry).into())
            .collect();
        variants.sort_by_key(|variant| variant.launch.entry != guess);
        let units = extras.units;
        variants.extend(units.and_then(|units| self.on_units(recording, live, part, units)));
        let (inputs, outputs) = (inputs.len(), outputs.len());
        let class = ProductClass::new(rows, inputs, outputs, self.layout, quads);
        Choice {
            class: Some(Arc::new(class)),
            variants,
        }
    }

    /// By an entry point of `shaders/matmul.wgsl`.
    fn tiled(
        &self,
        recording: &Recording,
        live: &dyn Fn(TensorId) -> bool,
        part: &Part,
        entry: &Entry,
    ) -> Launch {
        let y = recording.shape(self.y);
        let (across, down) = entry.workgroups(y.lead * y.rows, part.outputs.len());
        let names = match entry.quads {
            true => ["x_quads", "weight_quads"],
            false => ["x", "weight"],
        };
        let mut launch = self.launch(recording, live, part, names);
        launch.entry = entry.name;
        launch.overrides.extend([
            ("IN_OUT", flag(self.layout == Layout::InOut)),
            ("ADD_TO_Y", flag(part.adds())),
        ]);
        launch.extent = Extent::grid(across, down);
        launch
    }

    /// On matrix units, if they can do it and it fills half a tile at least: of
    /// the forward layout, since what goes back is not rounded to f16.
    fn on_units(
        &self,
        recording: &Recording,
        live: &dyn Fn(TensorId) -> bool,
        part: &Part,
        units: MatrixUnits,
    ) -> Option<Variant> {
        let y = recording.shape(self.y);
        let (rows, outputs) = (y.lead * y.rows, part.outputs.len());
        let shader = units.shader();
        let tile = shader.constant("TILE") as usize;
        let filled = 2 * rows.min(outputs) > tile;
        if self.layout == Layout::InOut || part.adds() || !filled {
            return None;
        }
        let mut launch = self.launch(recording, live, part, ["x", "weight"]);
        launch.shader = shader.stem;
        launch.overrides.push(("SUBGROUPS", units.subgroups as f64));
        launch.extent = Extent::grid(outputs.div_ceil(tile), rows.div_ceil(tile));
        Some(Variant {
            launch,
            needs: &[Extra::MatrixUnits, Extra::F16, Extra::Subgroups],
            rounds: true,
        })
    }

    /// What all kernels are given; `names` are those of x and the weight.
    fn launch(
        &self,
        recording: &Recording,
        live: &dyn Fn(TensorId) -> bool,
        part: &Part,
        [x_name, weight_name]: [&'static str; 2],
    ) -> Launch {
        let (x, shape) = (recording.shape(self.x), recording.shape(self.y));
        let residual = self.residual.map(|id| recording.shape(id));
        let rows = shape.lead * shape.rows;
        let windows = self.windows.unwrap_or(Windows::padded(1, 1, 0));
        let wanted = |id: TensorId| live(id).then_some(id);
        let (y, pre) = (wanted(self.y), self.pre.and_then(wanted));
        // Bias and residual come with the first inputs.
        let (bias, own_residual) = match part.adds() {
            true => (None, None),
            false => (self.bias, self.residual),
        };
        Launch {
            shader: Self::NAME,
            entry: MEDIUM.name,
            overrides: vec![
                ("WINDOWS", flag(self.windows.is_some())),
                (
                    "ACTIVATION",
                    self.activation.number_in(Shader::load(Self::NAME)),
                ),
                ("HAS_BIAS", flag(bias.is_some())),
                ("HAS_RESIDUAL", flag(own_residual.is_some())),
                ("WRITE_Y", flag(y.is_some())),
                ("WRITE_PRE", flag(pre.is_some())),
            ],
            params: vec![
                ("rows", rows.into()),
                ("inputs", part.inputs.len().into()),
                ("outputs", part.outputs.len().into()),
                ("x_rows", x.rows.into()),
                ("x_cols", x.cols.into()),
                ("first_input", part.inputs.start.into()),
                ("windows", shape.rows.into()),
                ("stride", windows.stride.into()),
                ("padding", windows.padding.into()),
                ("y_cols", shape.cols.into()),
                ("first_output", part.outputs.start.into()),
                (
                    "residual_rows",
                    residual.map_or(rows, |r| r.lead * r.rows).into(),
                ),
                ("scale", self.scale.into()),
            ],
            bindings: vec![
                (x_name, self.x.into()),
                (weight_name, Binding::rows(self.weight, &part.block)),
                ("bias", bias.into()),
                ("residual", own_residual.into()),
                ("y", y.into()),
                ("pre", pre.into()),
            ],
            extent: Extent::Workgroups([0; 3]),
        }
    }
}

impl Part {
    /// Whether it adds to what the parts before it gave.
    fn adds(&self) -> bool {
        self.inputs.start > 0
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two_within_bounds() {
        let class =
            |rows, inputs, outputs| ProductClass::new(rows, inputs, outputs, Layout::OutIn, true);
        assert_eq!(class(300, 144, 432), class(512, 256, 512));
        assert_ne!(class(300, 144, 432), class(200, 144, 432));
        assert_eq!(class(1 << 20, 1 << 20, 1 << 20), class(2048, 1024, 2048));
        assert_eq!(class(1, 1, 1), class(1, 16, 16));
        assert_eq!(class(3, 80, 144).key(), "matmul 4x128x256 out-in by four");
    }
}
