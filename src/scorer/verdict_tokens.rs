//! Reading a history through the words of a guard's verdict.

use super::{Reading, ScoreError};
use crate::engine::Model;
use crate::transcript::History;
use crate::window::WindowSpec;

/// No family is implemented yet.
pub enum VerdictReader {}

impl VerdictReader {
    pub(super) fn read(
        &self,
        _model: &Model,
        _spec: &WindowSpec,
        _history: &History,
        _progress: &mut dyn FnMut(usize),
    ) -> Result<Reading, ScoreError> {
        match *self {}
    }
}
