//! The way of a tensor from the files into the table of weights.

use super::checkpoint::Checkpoint;
use crate::Result;
use crate::engine::tensor::WeightId;
use crate::engine::weights::{Form, Part, Role, WeightTable};

/// Reads tensors of a checkpoint into a table, as weights of one part of the
/// model.
pub struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    table: &'a mut WeightTable,
    part: Part,
}

impl<'a> Loader<'a> {
    /// A loader of one part's weights.
    pub fn new(checkpoint: &'a Checkpoint, table: &'a mut WeightTable, part: Part) -> Self {
        Self {
            checkpoint,
            table,
            part,
        }
    }

    /// Whether the checkpoint has a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.checkpoint.contains(name)
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        self.checkpoint.read(name)
    }

    /// How many rows a tensor has, where weights are left out.
    pub fn outlined_rows(&self, name: &str) -> Option<usize> {
        self.checkpoint.outlined_rows(name)
    }

    /// Adds values (rows, cols) to the table; those of an outline may be
    /// missing.
    pub fn add(
        &mut self,
        form: Form,
        name: impl Into<String>,
        rows: usize,
        cols: usize,
        values: Vec<f32>,
    ) -> WeightId {
        let part = self.part;
        if self.checkpoint.is_outline() {
            return self.table.outline(Role { part, form }, name, rows, cols);
        }
        self.table
            .add(Role { part, form }, name, rows, cols, values)
    }

    /// Adds values (rows, cols) that follow from the config alone.
    pub fn add_computed(
        &mut self,
        form: Form,
        name: impl Into<String>,
        rows: usize,
        cols: usize,
        values: Vec<f32>,
    ) -> WeightId {
        let id = self.add(form, name, rows, cols, values);
        self.table.set_computed(id);
        id
    }

    /// Reads a tensor into the table, as (rows, cols).
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn load(&mut self, form: Form, name: &str, rows: usize, cols: usize) -> Result<WeightId> {
        let values = match self.checkpoint.is_outline() {
            true => Vec::new(),
            false => self.read(name)?,
        };
        Ok(self.add(form, name, rows, cols, values))
    }
}
