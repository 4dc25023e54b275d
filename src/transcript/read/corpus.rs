//! What was read: an index in memory, the sessions in a temporary file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tempfile::SpooledTempFile;

use super::ReadError;
use super::problem::{Problem, Summary};
use crate::transcript::{History, Session, in_order_of_time};

/// Where a session, or a part of one, lies in the spool.
#[derive(Debug, Clone)]
struct Entry {
    offset: u64,
    bytes: u64,
    /// Which of the user's sessions this belongs to, in the order met.
    session: u32,
    /// Which of the files it was read from.
    file: u32,
    /// Rows of a table: ordered by time when the session is read back.
    rows: bool,
}

/// One user of a [`Corpus`].
#[derive(Debug, Clone)]
pub struct UserEntry {
    user_id: String,
    entries: Vec<Entry>,
    sessions: u32,
    messages: u64,
    bytes: u64,
    first_start: Option<Timestamp>,
    last_start: Option<Timestamp>,
}

impl UserEntry {
    /// The user's id.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Sessions read.
    pub fn session_count(&self) -> usize {
        self.sessions as usize
    }

    /// Messages read.
    pub fn message_count(&self) -> u64 {
        self.messages
    }

    /// Bytes of all sessions as JSON: about what [`Corpus::history`] will take.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the first dated session began.
    pub fn first_start(&self) -> Option<Timestamp> {
        self.first_start
    }

    /// When the last dated session began.
    pub fn last_start(&self) -> Option<Timestamp> {
        self.last_start
    }
}

/// All sessions of a read, by user.
///
/// In memory: about 150 bytes a user and 32 a session, plus the user ids ([`Corpus::index_bytes`]). The sessions themselves
/// lie in a temporary file without a name (in memory up to
/// [`Limits::spool_memory_bytes_max`](super::Limits::spool_memory_bytes_max)), gone when this is
/// dropped.
#[derive(Debug)]
pub struct Corpus {
    users: Vec<UserEntry>,
    problems: Vec<Problem>,
    summary: Summary,
    spool: Mutex<SpooledTempFile>,
}

impl Corpus {
    pub(super) fn new(index: Index, problems: Vec<Problem>, summary: Summary) -> Self {
        let Index { mut users, spool, .. } = index;
        for user in &mut users {
            user.entries.shrink_to_fit();
        }
        Corpus { users, problems, summary, spool: Mutex::new(spool) }
    }

    /// The users, in the order in which they were first met.
    pub fn users(&self) -> &[UserEntry] {
        &self.users
    }

    /// What was found wrong, in order, up to [`Limits::problems_max`](super::Limits::problems_max);
    /// [`Summary::problems`] counts all.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What the read came to.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Bytes that the index takes in memory, estimated.
    pub fn index_bytes(&self) -> usize {
        let user =
            |u: &UserEntry| size_of::<UserEntry>() + u.user_id.capacity() + u.entries.capacity() * size_of::<Entry>();
        self.users.iter().map(user).sum()
    }

    /// Reads back all sessions of one user, in the order of time. A session without a time stays
    /// beside its neighbour in its file, as [`History::sort_sessions`] says; those of a file without
    /// any come first, in the order of file names. Holds that one user in memory.
    ///
    /// # Errors
    /// An index past the end; a temporary file that fails or gives back something else.
    pub fn history(&self, index: usize) -> Result<History, ReadError> {
        let user = self.users.get(index).ok_or(ReadError::NoSuchUser { index, users: self.users.len() })?;
        let mut sessions: Vec<Option<Session>> = vec![None; user.sessions as usize];
        let mut origins = vec![(0, false); user.sessions as usize];
        for entry in &user.entries {
            let number = entry.session as usize;
            let damaged = || ReadError::SpoolDamaged { user: index, session: number };
            let bytes = self.read_entry(entry)?;
            let part: Session = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            origins[number] = (entry.file, entry.rows);
            match &mut sessions[number] {
                Some(session) => session.messages.extend(part.messages),
                empty => *empty = Some(part),
            }
        }
        let mut files: BTreeMap<u32, Vec<Session>> = BTreeMap::new();
        for (session, (file, rows)) in sessions.into_iter().zip(origins) {
            let Some(mut session) = session else { continue };
            if rows {
                sort_rows(&mut session);
            }
            files.entry(file).or_default().push(session);
        }
        Ok(History { user_id: user.user_id.clone(), sessions: in_order_of_time(files.into_values()) })
    }

    fn read_entry(&self, entry: &Entry) -> Result<Vec<u8>, ReadError> {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool.seek(SeekFrom::Start(entry.offset)).map_err(ReadError::spool)?;
        let mut bytes = vec![0; entry.bytes as usize];
        spool.read_exact(&mut bytes).map_err(ReadError::spool)?;
        Ok(bytes)
    }
}

/// Rows of a table have no order of their own: where all are dated, time orders them.
fn sort_rows(session: &mut Session) {
    if session.messages.iter().all(|m| m.timestamp.is_some()) {
        session.messages.sort_by_key(|m| m.timestamp);
    }
}

/// A session id of a user that was met before.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The last file and session it was met in.
    file: u64,
    session: u32,
    messages: usize,
    next_suffix: u64,
}

/// What a session is told by: 128 bits under keys of this run alone, so that none can be made to
/// look like another.
pub(super) type Digest = [u64; 2];

/// The index while it grows.
#[derive(Debug)]
pub(super) struct Index {
    users: Vec<UserEntry>,
    by_id: HashMap<String, usize>,
    known: Vec<HashMap<String, Known>>,
    /// Digests of each user's sessions.
    digests: Vec<HashSet<Digest>>,
    keys: [RandomState; 2],
    spool: SpooledTempFile,
    spool_bytes: u64,
}

/// Where a session will go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A session of its own, under this id (with this suffix when the one asked for was taken).
    New { session_id: String, repeated: Option<u64> },
    /// More rows of a session of the same file, which has this many messages.
    More { messages: usize },
}

impl Index {
    pub fn new(memory_bytes: usize) -> Self {
        Index {
            users: Vec::new(),
            by_id: HashMap::new(),
            known: Vec::new(),
            digests: Vec::new(),
            keys: [RandomState::new(), RandomState::new()],
            spool: SpooledTempFile::new(memory_bytes),
            spool_bytes: 0,
        }
    }

    pub fn users(&self) -> usize {
        self.users.len()
    }

    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes
    }

    /// Sessions and bytes of a user; none for one not met yet.
    pub fn size_of(&self, user_id: &str) -> Option<(usize, u64)> {
        self.by_id.get(user_id).map(|&i| (self.users[i].sessions as usize, self.users[i].bytes))
    }

    /// The digest of a session as it is written under the id that the data gave.
    pub fn digest(&self, json: &[u8]) -> Digest {
        [self.keys[0].hash_one(json), self.keys[1].hash_one(json)]
    }

    /// Whether the user has this session already.
    pub fn has_copy(&self, user_id: &str, digest: &Digest) -> bool {
        self.by_id.get(user_id).is_some_and(|&i| self.digests[i].contains(digest))
    }

    /// Where a session of this id goes.
    pub fn slot(&self, user_id: &str, session_id: &str, rows_of: Option<u64>) -> Slot {
        let known = self.by_id.get(user_id).map(|&i| &self.known[i]);
        let Some((ids, one)) = known.and_then(|ids| Some((ids, ids.get(session_id)?))) else {
            return Slot::New { session_id: session_id.to_owned(), repeated: None };
        };
        if rows_of == Some(one.file) {
            return Slot::More { messages: one.messages };
        }
        let mut suffix = one.next_suffix;
        while ids.contains_key(&format!("{session_id}#{suffix}")) {
            suffix += 1;
        }
        Slot::New { session_id: format!("{session_id}#{suffix}"), repeated: Some(suffix) }
    }

    /// Writes a session to the spool. `asked_id` is the id that the data gave; `slot` is what
    /// [`Index::slot`] made of it.
    pub fn add(&mut self, user_id: &str, asked_id: &str, slot: &Slot, part: Part<'_>) -> Result<(), ReadError> {
        let user = self.user(user_id);
        let offset = self.spool_bytes;
        self.spool.seek(SeekFrom::Start(offset)).map_err(ReadError::spool)?;
        self.spool.write_all(part.json).map_err(ReadError::spool)?;
        let bytes = part.json.len() as u64;
        self.spool_bytes += bytes;

        self.digests[user].extend(part.digest);
        let (entry, ids) = (&mut self.users[user], &mut self.known[user]);
        let number = match slot {
            Slot::More { .. } => ids.get(asked_id).map_or(0, |one| one.session),
            Slot::New { session_id, repeated } => {
                let number = entry.sessions;
                entry.sessions += 1;
                let one = Known { file: part.file, session: number, messages: 0, next_suffix: 2 };
                if let (Some(suffix), Some(first)) = (repeated, ids.get_mut(asked_id)) {
                    *first = Known { next_suffix: suffix + 1, ..one };
                }
                ids.insert(session_id.clone(), one);
                number
            }
        };
        if let Some(one) = ids.get_mut(asked_id) {
            one.messages += part.messages;
        }
        entry.entries.push(Entry { offset, bytes, session: number, file: part.file as u32, rows: part.rows });
        entry.messages += part.messages as u64;
        entry.bytes += bytes;
        if let Some(start) = part.start {
            entry.first_start = Some(entry.first_start.map_or(start, |t| t.min(start)));
            entry.last_start = Some(entry.last_start.map_or(start, |t| t.max(start)));
        }
        Ok(())
    }

    fn user(&mut self, user_id: &str) -> usize {
        if let Some(&at) = self.by_id.get(user_id) {
            return at;
        }
        let at = self.users.len();
        self.by_id.insert(user_id.to_owned(), at);
        self.known.push(HashMap::new());
        self.digests.push(HashSet::new());
        self.users.push(UserEntry {
            user_id: user_id.to_owned(),
            entries: Vec::new(),
            sessions: 0,
            messages: 0,
            bytes: 0,
            first_start: None,
            last_start: None,
        });
        at
    }
}

/// A session, or more rows of one, ready to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub json: &'a [u8],
    /// None for rows, whose session is not whole yet.
    pub digest: Option<Digest>,
    pub file: u64,
    pub rows: bool,
    pub messages: usize,
    pub start: Option<Timestamp>,
}
