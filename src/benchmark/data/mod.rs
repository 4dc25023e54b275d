//! Labelled histories: author files ([`author`]), and tables with a label map ([`labels`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arc::{ArcKind, MessageAt};
use crate::transcript::History;
use crate::transcript::read::{Limits, TableError};

pub mod author;
pub mod labels;
mod open;
mod split;
pub mod toward;

pub use open::{Opened, open};
pub use split::{Split, Splits};

/// What is too much for a labelled file; it is read whole.
pub fn limits() -> Limits {
    Limits { unpacked_bytes_max: 1 << 30, record_bytes_max: 16 << 20, ..Limits::default() }
}

/// Why labelled data cannot be read. The text of a message never stands in it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A line that breaks the format.
    #[error("{}:{line}: {found}; hint: {hint}", .file.display())]
    Line { file: PathBuf, line: u64, found: String, hint: String },
    /// A file or folder that cannot be used as a whole.
    #[error("{}: {found}; hint: {hint}", .file.display())]
    File { file: PathBuf, found: String, hint: String },
    /// A table that cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl DataError {
    /// About one line of a file.
    pub fn line(file: &Path, line: u64, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Line { file: file.to_owned(), line, found: found.into(), hint: hint.into() }
    }

    /// About a whole file.
    pub fn file(file: &Path, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), found: found.into(), hint: hint.into() }
    }
}

/// What a label says is true.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Truth {
    /// A rung of the scale: 0–3, or −1–2 of stance.
    Level(i8),
    /// Positive or negative.
    Is(bool),
    /// A number without a scale of its own: only its rank is compared.
    Number(f64),
}

/// What of a detector a label is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A message's score.
    Harassment,
    Delusion,
    Stance,
    Imminent,
    /// A history's score.
    HarassmentArc,
    DelusionArc,
}

impl Subject {
    /// The arc on whose scale a message is judged.
    pub fn scale(self) -> Option<ArcKind> {
        match self {
            Self::Harassment => Some(ArcKind::Harassment),
            Self::Delusion => Some(ArcKind::Delusion),
            _ => None,
        }
    }

    /// The arc whose score is meant, where it is one.
    pub fn arc(self) -> Option<ArcKind> {
        match self {
            Self::HarassmentArc => Some(ArcKind::Harassment),
            Self::DelusionArc => Some(ArcKind::Delusion),
            _ => None,
        }
    }
}

/// One thing that is judged: what the labels call it, and what they are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it stands in tables.
    pub name: String,
    pub subject: Subject,
    /// A message counts as positive from this level on: its score is P(level ≥ `level_min`).
    pub level_min: u8,
}

/// A label of one example.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// Index into [`DataSet::targets`].
    pub target: usize,
    /// The message it is about; `None` for the whole history.
    pub at: Option<MessageAt>,
    pub truth: Truth,
}

/// A history with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// `user_id` is the example's id.
    pub history: History,
    /// Figures are also given for each kind.
    pub kind: String,
    /// Examples of one cluster are drawn together: an original with its twin.
    pub cluster: String,
    /// Index of the original among the examples.
    pub twin_of: Option<usize>,
    /// Onset of harassment and of delusion, where these were judged: `None` inside is a negative.
    pub arcs: Option<[Option<MessageAt>; 2]>,
    pub labels: Vec<Label>,
}

impl Example {
    /// The labelled onset of an arc.
    pub fn onset(&self, kind: ArcKind) -> Option<MessageAt> {
        self.arcs?[kind as usize]
    }

    /// A member of a set of minimal pairs: its messages stand beside those of its cluster at the same place.
    pub fn is_contrast(&self) -> bool {
        self.kind == author::CONTRAST
    }

    /// Whether the assistant fed a delusion or withstood it, where the kind says one of the two.
    pub fn is_reinforced(&self) -> Option<bool> {
        match self.kind.as_str() {
            author::REINFORCED => Some(true),
            author::RESISTED => Some(false),
            _ => None,
        }
    }

    /// Judged, and without any arc.
    pub fn is_negative(&self) -> bool {
        self.arcs == Some([None, None])
    }
}

/// Examples that are judged together.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    pub name: String,
    /// Where it is from, in a sentence.
    pub about: String,
    pub targets: Vec<Target>,
    pub examples: Vec<Example>,
    /// The arc whose first `review` is told for each case, by kind.
    pub review: Option<ArcKind>,
    /// Records that were read and not used, and why: nothing is dropped in silence.
    pub left_out: Vec<(String, usize)>,
}
