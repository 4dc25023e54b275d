//! What to read, how, and within which limits.

use std::path::PathBuf;

use super::Format;

/// Transcripts to read. All fields are public; start from [`Source::new`].
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Files, folders, globs, or `-` for standard input. All files are read in the order of their
    /// names, standard input first, however they are given.
    ///
    /// A path that exists is taken as it stands, even with `*` or `[` in its name. Links to
    /// folders inside a folder or matched by a glob are not followed. Names that begin with `.`
    /// inside a folder are skipped and counted.
    pub paths: Vec<PathBuf>,
    /// The format of every file; `None` tells it per file from the content, then the extension.
    pub format: Option<Format>,
    /// The user of every record that names none.
    pub user: Option<String>,
    /// Where the columns of CSV files are.
    pub csv: CsvColumns,
    /// What is too much.
    pub limits: Limits,
}

impl Source {
    /// All defaults, and these paths.
    pub fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Source { paths: paths.into_iter().map(Into::into).collect(), ..Source::default() }
    }
}

/// Names of the columns of a CSV file; `None` looks for the usual names (see [`Format::Csv`]).
/// Names are compared without case and surrounding space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvColumns {
    pub user: Option<String>,
    pub session: Option<String>,
    pub role: Option<String>,
    pub content: Option<String>,
    pub timestamp: Option<String>,
    /// The byte between fields; `None`: a tab in `.tsv`, else whichever of `,` `;` and tab the
    /// header line has most of.
    pub delimiter: Option<u8>,
}

/// What is too much. A record over a limit is left out whole and reported, never cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files to read in one go.
    pub files_max: u64,
    /// How deep folders are walked.
    pub folder_depth_max: u32,
    /// Bytes of one file after unpacking: the guard against packed bombs.
    pub unpacked_bytes_max: u64,
    /// Bytes of one record: a line, a list element, a row, a session of plain text.
    pub record_bytes_max: usize,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Messages of one session.
    pub messages_per_session_max: usize,
    /// Bytes of a user id or session id.
    pub id_bytes_max: usize,
    /// Sessions of one user.
    pub sessions_per_user_max: usize,
    /// Bytes of one user's sessions: what [`Corpus::history`](super::Corpus::history) holds at once.
    pub user_bytes_max: u64,
    /// Users.
    pub users_max: usize,
    /// Bytes of all sessions between the passes: room taken in the temporary folder.
    pub spool_bytes_max: u64,
    /// Bytes of the sessions held in memory before they go to a temporary file.
    pub spool_memory_bytes_max: usize,
    /// Problems kept word for word; all are counted.
    pub problems_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            files_max: 100_000,
            folder_depth_max: 32,
            unpacked_bytes_max: 64 << 30,
            record_bytes_max: 64 << 20,
            message_bytes_max: 4 << 20,
            messages_per_session_max: 100_000,
            id_bytes_max: 1 << 10,
            sessions_per_user_max: 100_000,
            user_bytes_max: 1 << 30,
            users_max: 5_000_000,
            spool_bytes_max: 256 << 30,
            spool_memory_bytes_max: 64 << 20,
            problems_max: 1_000,
        }
    }
}

/// How far a read has come; sent at the start of each file and about every 1,000 records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file being read.
    pub file: &'a str,
    /// Files done before it.
    pub files_done: u64,
    /// Files to read in all.
    pub files_total: u64,
    /// Bytes read from disk so far, over all files, before unpacking.
    pub bytes_read: u64,
    /// Bytes of all files; `None` when standard input is among them.
    pub bytes_total: Option<u64>,
    /// Records met so far, over all files.
    pub records: u64,
}
