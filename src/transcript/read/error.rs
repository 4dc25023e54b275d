//! What stops a whole read. What is wrong with one record or one file is a
//! [`Problem`](super::Problem) instead, and the rest is still read.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why nothing could be read, or not further.
///
/// No text of a message ever stands in an error: paths, positions and limits only.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// [`Source::paths`](super::Source::paths) is empty.
    #[error("no transcript was named; hint: give files, folders, globs, or `-` for standard input")]
    NoInput,
    /// A path that was named is not there or cannot be opened.
    #[error("cannot open {path}: {source}; hint: check the path and the permissions", path = .path.display())]
    Open { path: PathBuf, source: io::Error },
    /// A pattern with `*`, `?` or `[` that is not a valid glob.
    #[error("the glob {pattern} cannot be read: {reason}; hint: quote it, and write `[[]` for a literal `[`")]
    BadGlob { pattern: String, reason: String },
    /// A glob that matches nothing.
    #[error("no file matches {pattern}; hint: check the folder, and quote the glob so that the shell leaves it alone")]
    NoMatch { pattern: String },
    /// The folders named hold no file at all that looks like a transcript.
    #[error(
        "found no transcript among {files} files; hint: known names end in .jsonl .ndjson .json .csv .tsv .txt .md \
         .parquet, also with .gz or .zst; name a file itself to read it whatever it is called"
    )]
    NothingFound { files: u64 },
    /// More files than [`Limits::files_max`](super::Limits::files_max).
    #[error("found more than {limit} files; hint: name fewer, in several runs")]
    TooManyFiles { limit: u64 },
    /// A file that was named itself is in no format known here.
    #[error(
        "cannot tell the format of {name}; hint: name it: native, openai, chatgpt, claude, sharegpt, wildchat, csv, \
         text or parquet"
    )]
    UnknownFormat { name: String },
    /// The temporary file that holds the sessions between the passes failed (a full disk, most often).
    #[error(
        "the temporary file of the sessions failed: {source}; hint: make room in the temporary folder, or set TMPDIR"
    )]
    Spool { source: io::Error },
    /// A session came back from the temporary file other than it was written.
    #[error(
        "session {session} of user number {user} came back damaged from the temporary file; hint: check the disk, and read again"
    )]
    SpoolDamaged { user: usize, session: usize },
    /// A user index past the end.
    #[error("there is no user number {index}, {users} users were read; hint: take the index from `Corpus::users`")]
    NoSuchUser { index: usize, users: usize },
}

impl ReadError {
    /// Wraps a failure of the spool.
    pub(super) fn spool(source: io::Error) -> Self {
        ReadError::Spool { source }
    }
}
