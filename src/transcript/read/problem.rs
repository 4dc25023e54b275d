//! What was found wrong, where, and what came of it.

use std::fmt;

use serde::Serialize;

/// Where in a file something stands. All numbers but the byte offset count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line of a file with one record a line, or of plain text.
    Line(u64),
    /// An element of a JSON list: its number, and the offset of its first byte after unpacking.
    Record { number: u64, byte_offset: u64 },
    /// A row of a table, and the line on which it begins (0 where the format has no lines).
    Row { number: u64, line: u64 },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File => Ok(()),
            Place::Line(line) => write!(f, ":{line}"),
            Place::Record { number, byte_offset } => write!(f, ": record {number} at byte {byte_offset}"),
            Place::Row { number, line: 0 } => write!(f, ": row {number}"),
            Place::Row { number, line } => write!(f, ":{line}: row {number}"),
        }
    }
}

/// What came of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The record (or, for a file cut off, the rest of it) was not read.
    LeftOut,
    /// The whole file was not read.
    FileSkipped,
    /// It was read, with the change that the problem names.
    Notice,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::LeftOut => "left out",
            Outcome::FileSkipped => "file skipped",
            Outcome::Notice => "notice",
        })
    }
}

/// One thing found wrong. It never holds text of a message: transcripts are private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The path as given or found, or `stdin`.
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// What came of it.
    pub outcome: Outcome,
    /// What stands there: a field, a type, a size.
    pub found: String,
    /// What should stand there.
    pub expected: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, place, outcome, found, expected, hint } = self;
        write!(f, "{file}{place}: {outcome}: found {found}")?;
        if !expected.is_empty() {
            write!(f, ", expected {expected}")?;
        }
        if !hint.is_empty() {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

/// A problem before it is known where: what a reader of one record returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub found: String,
    pub expected: String,
    pub hint: String,
}

impl Fault {
    pub fn new(found: impl Into<String>, expected: impl Into<String>, hint: impl Into<String>) -> Self {
        Fault { found: found.into(), expected: expected.into(), hint: hint.into() }
    }

    /// Over a limit, by its name in [`Limits`](super::Limits): names the value, the limit, and what to do about it.
    pub fn limit(what: &str, value: u64, limit: u64, setting: &str) -> Self {
        let hint = match setting {
            "id_bytes_max" => "give it a shorter id",
            "messages_per_session_max" => "split the session into several",
            "sessions_per_user_max" | "user_bytes_max" => "split this user's sessions over several runs",
            "users_max" | "spool_bytes_max" => "split the files over several runs",
            _ => "split it into several",
        };
        Fault::new(format!("{value} {what}"), format!("at most {limit}"), hint)
    }

    /// Gives the fault its place.
    pub fn at(self, file: &str, place: Place, outcome: Outcome) -> Problem {
        let Fault { found, expected, hint } = self;
        Problem { file: file.to_owned(), place, outcome, found, expected, hint }
    }
}

/// Problems kept up to a limit, and counted past it.
#[derive(Debug)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    limit: usize,
    count: u64,
}

impl Problems {
    pub fn new(limit: usize) -> Self {
        Problems { kept: Vec::new(), limit, count: 0 }
    }

    pub fn push(&mut self, problem: Problem) {
        self.count += 1;
        if self.kept.len() < self.limit {
            self.kept.push(problem);
        }
    }

    /// Counts problems that were not kept.
    pub fn count_more(&mut self, more: u64) {
        self.count += more;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn into_kept(self) -> Vec<Problem> {
        self.kept
    }
}

/// What a read came to. `records == records_read + left_out`, always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Files read, in whole or in part.
    pub files: u64,
    /// Files not read: unknown in a folder, named twice, unreadable, in no format known here.
    pub skipped_files: u64,
    /// Records met: lines, list elements, rows, sessions of plain text.
    pub records: u64,
    /// Records that are now in a session, or whose session was there already.
    pub records_read: u64,
    /// Records that are not, each with a problem; the unread rest of a broken file counts as one.
    pub left_out: u64,
    /// Sessions kept.
    pub sessions: u64,
    /// Messages kept.
    pub messages: u64,
    /// Users found.
    pub users: u64,
    /// Messages without any text, dropped.
    pub empty_messages: u64,
    /// Messages kept apart as [`Role::System`](crate::transcript::Role::System): operator's
    /// instructions, hidden nodes, the model's reasoning.
    pub kept_apart: u64,
    /// Messages of a ChatGPT export off the active branch (edits, regenerated answers), not read.
    pub other_branches: u64,
    /// Times that could not be read; what they date is kept, undated.
    pub unread_times: u64,
    /// Halves of characters (lone surrogates in JSON), each replaced by U+FFFD.
    pub half_characters: u64,
    /// Sessions whose id the user already had, kept under `id#2`, `id#3`, ….
    pub repeated_sessions: u64,
    /// Sessions that their user had already, word for word and under the same id, not kept again.
    pub copied_sessions: u64,
    /// All problems, also those past [`Limits::problems_max`](super::Limits::problems_max).
    pub problems: u64,
}
