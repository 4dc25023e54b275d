//! What is kept of users: what was said, what was made of it, alarms and what people did about them. An SQLite database in one folder, or
//! a PostgreSQL database (feature `postgres`) that several servers share; what is kept and how it is sealed is the same (`database`).
//!
//! The log of messages with their scores is the truth; whatever else is told of a user is computed from it, so that nothing derived
//! can go stale. A turn is kept whole or not at all, in one transaction that also holds its idempotency key and its answer, and
//! is on the disk (SQLite: `synchronous = FULL`) when [`Store::keep`] returns. It is kept only behind what it was judged by: the user's row
//! is locked, and its counts must be those that the caller read, whoever else writes.
//!
//! Nothing readable lies there but counts, places, times and levels: ids are looked up by an HMAC, and ids, messages, scores, answers and
//! notes are sealed (`seal`) under a key of each user's own, which is itself sealed under the operator's. Erasing a user
//! destroys that key. Must not know models, HTTP, or policies beyond the level of an alarm.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;

use crate::arc::MessageAt;
use crate::scoring::MessageScore;
use crate::transcript::Role;
use crate::verdict::Level;

mod alarms;
mod check;
mod database;
mod error;
#[cfg(feature = "postgres")]
mod postgres;
mod restore;
mod retention;
mod schema;
mod seal;
mod sqlite;
mod turns;
mod users;
mod webhooks;

pub use alarms::{Acknowledgement, Alarm, Alarms};
use database::{Database, values};
pub use error::StoreError;
#[cfg(feature = "postgres")]
pub use postgres::PostgresSettings;
pub use retention::{Retained, Retention};
use seal::Keys;
pub use seal::MasterKey;
use sqlite::Sqlite;

/// The database's file in its folder.
const FILE: &str = "throughline.sqlite";

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptMessage {
    pub at: MessageAt,
    pub role: Role,
    /// `None` where content is not kept.
    pub content: Option<String>,
    /// When it was written, or when it came.
    pub time: Option<Timestamp>,
    /// `None` of a system or tool message.
    pub score: Option<MessageScore>,
}

/// A session as it is kept: messages in the order in which they came. A session that is taken up again after another began
/// is kept as one more.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptSession {
    pub session_id: String,
    pub started_at: Option<Timestamp>,
    pub messages: Vec<KeptMessage>,
}

/// How a user stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserRow {
    /// Of the row, never given twice: whoever is erased and comes back has another. 0 of one who is not known.
    pub id: i64,
    /// Messages kept.
    pub messages: u64,
    /// Sessions kept.
    pub sessions: u64,
    /// The highest level of any alarm so far: of harassment, of delusion, of anything.
    pub alarmed: [Option<Level>; 3],
    /// Messages that were kept when a person last acknowledged alarms; 0 before that.
    pub seen_messages: u64,
    /// Messages, from the first on, of which what was said was dropped since.
    pub dropped: u64,
    /// Whether an alarm waits for a person.
    pub open_alarm: bool,
    pub held: bool,
}

/// A turn to be kept.
#[derive(Debug)]
pub struct NewTurn<'a> {
    pub user_id: &'a str,
    /// The row that the turn was judged by.
    pub user: UserRow,
    /// The session of the first message, where it is a new one: its id and beginning.
    pub new_session: Option<(&'a str, Option<Timestamp>)>,
    pub messages: &'a [KeptMessage],
    pub alarm: Option<NewAlarm<'a>>,
    pub request: Option<Request<'a>>,
    pub now: Timestamp,
}

/// A request that is to be answered once.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Its idempotency key.
    pub key: &'a str,
    /// What was asked, by [`Store::digest`].
    pub asked: [u8; 32],
    /// The answer to give again, by the number of the alarm that the turn raises.
    pub answer: &'a dyn Fn(Option<i64>) -> Vec<u8>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Request(…)")
    }
}

/// An alarm to be kept with a turn.
#[derive(Debug, Clone, Copy)]
pub struct NewAlarm<'a> {
    pub level: Level,
    /// The levels of harassment and delusion now.
    pub arcs: [Level; 2],
    pub at: MessageAt,
    /// What led to it, in JSON.
    pub verdict: &'a [u8],
}

/// The answer that was given to a request of the same idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What was asked, by [`Store::digest`].
    pub asked: [u8; 32],
    pub answer: Vec<u8>,
}

/// The database, and the keys to what lies there.
pub struct Store {
    database: Database,
    keys: Keys,
}

impl Store {
    /// Opens the database in a folder, and makes it where there is none.
    ///
    /// # Errors
    /// When the folder cannot be written, the key is not the one it was begun with, or a newer build wrote it.
    pub fn open(folder: &Path, key: &MasterKey) -> Result<Self, StoreError> {
        Self::of(Database::Sqlite(Sqlite::open(folder.join(FILE))?), key)
    }

    /// Connects to a PostgreSQL database, and makes the tables where there are none.
    ///
    /// # Errors
    /// When it cannot be reached or written, the key is not the one it was begun with, or a newer build wrote it.
    #[cfg(feature = "postgres")]
    pub fn connect(settings: &PostgresSettings, key: &MasterKey) -> Result<Self, StoreError> {
        Self::of(Database::Postgres(Box::new(postgres::Postgres::connect(settings)?)), key)
    }

    fn of(database: Database, key: &MasterKey) -> Result<Self, StoreError> {
        let store = Self { database, keys: Keys::of(key) };
        store.check_key()?;
        Ok(store)
    }

    /// Where it is, for people: the file, or the database's address without a password.
    pub fn place(&self) -> String {
        self.database.place()
    }

    /// Whether other servers may write to it.
    pub fn is_shared(&self) -> bool {
        self.database.is_shared()
    }

    /// HMAC-SHA256 of anything under a key of the operator's, for comparing.
    pub fn digest(&self, of: &[u8]) -> [u8; 32] {
        self.keys.digest(of)
    }

    /// Whether the key is the one that the database was begun with; a new database is begun with it.
    fn check_key(&self) -> Result<(), StoreError> {
        const WORD: &[u8] = b"throughline";
        self.database.write(|on| {
            let sealed = self.keys.wrap.seal(WORD, b"key check")?;
            let begin = "INSERT INTO meta (name, value) VALUES ('key_check', ?1) ON CONFLICT (name) DO NOTHING";
            on.execute(begin, values![sealed])?;
            let row = on.first("SELECT value FROM meta WHERE name = 'key_check'", &[])?;
            let sealed = row.ok_or(StoreError::Sealed)?.bytes(0)?;
            match self.keys.wrap.open(&sealed, b"key check") {
                Ok(word) if word == WORD => Ok(()),
                _ => Err(StoreError::OtherKey { place: self.place() }),
            }
        })
    }
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millisecond)
}

fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

#[cfg(test)]
mod tests;
