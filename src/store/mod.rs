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

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

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

pub use alarms::{Acknowledgement, Alarm, Alarms, Seen};
use database::{Database, values};
pub use error::StoreError;
#[cfg(feature = "postgres")]
pub use postgres::PostgresSettings;
pub use retention::{Retained, Retention};
pub use schema::Form;
use seal::Keys;
pub use seal::MasterKey;
use sqlite::Sqlite;

/// The database's file in its folder.
const FILE: &str = "throughline.sqlite";
/// What is sealed once under the operator's key, and what that is of.
const KEY_WORD: &[u8] = b"throughline";
const KEY_CHECK: &[u8] = b"key check";
/// How pseudonyms of users begin.
const PSEUDONYM: &str = "u_";

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptMessage {
    pub at: MessageAt,
    pub role: Role,
    /// `None` where content is not kept.
    pub content: Option<String>,
    /// Of what was said ([`text_digest`]), kept though it is not: whoever has the text can show that it is what was judged. `None` of
    /// messages that an older build kept.
    pub digest: Option<[u8; 32]>,
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
    /// The highest level of the alarms that wait for a person, if any does.
    pub open_alarm: Option<Level>,
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

/// An alarm to be kept with a turn, or with a look at an earlier one.
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
    /// Opens the database in a folder, makes it where there is none, and brings an older form to the present one. The caller sees to it
    /// that no other server has the folder.
    ///
    /// # Errors
    /// When the folder cannot be written, the key is not the one it was begun with, or a newer build wrote it.
    pub fn open(folder: &Path, key: &MasterKey) -> Result<Self, StoreError> {
        Self::of(Database::Sqlite(Box::new(Sqlite::open(folder.join(FILE))?)), key)
    }

    /// Opens the database in a folder beside whoever has it: it is neither made nor brought forward. Of an older form
    /// ([`Form::is_older`]) nothing can be asked but for a copy.
    ///
    /// # Errors
    /// When there is none, it cannot be read, the key is not the one it was begun with, or a newer build wrote it.
    pub fn open_as_it_is(folder: &Path, key: &MasterKey) -> Result<Self, StoreError> {
        Self::of_as_it_is(Database::Sqlite(Box::new(Sqlite::open_as_it_is(folder.join(FILE))?)), key)
    }

    /// Connects to a PostgreSQL database, makes the tables where there are none, and brings older ones to the present form.
    ///
    /// # Errors
    /// When it cannot be reached or written, the key is not the one it was begun with, or a newer build wrote it.
    #[cfg(feature = "postgres")]
    pub fn connect(settings: &PostgresSettings, key: &MasterKey) -> Result<Self, StoreError> {
        Self::of(Database::Postgres(Box::new(postgres::Postgres::connect(settings)?)), key)
    }

    /// Connects to a PostgreSQL database as [`Store::open_as_it_is`] opens a folder's.
    ///
    /// # Errors
    /// When it cannot be reached, the key is not the one it was begun with, or a newer build wrote it.
    #[cfg(feature = "postgres")]
    pub fn connect_as_it_is(settings: &PostgresSettings, key: &MasterKey) -> Result<Self, StoreError> {
        Self::of_as_it_is(Database::Postgres(Box::new(postgres::Postgres::connect_as_it_is(settings)?)), key)
    }

    fn of(database: Database, key: &MasterKey) -> Result<Self, StoreError> {
        let store = Self { database, keys: Keys::of(key) };
        store.begin_key()?;
        store.check_key()?;
        Ok(store)
    }

    fn of_as_it_is(database: Database, key: &MasterKey) -> Result<Self, StoreError> {
        let store = Self { database, keys: Keys::of(key) };
        // Without tables nothing was begun.
        if store.form().found > 0 {
            store.check_key()?;
        }
        Ok(store)
    }

    /// The form that the database had when it was opened, and this build's.
    pub fn form(&self) -> Form {
        self.database.form()
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

    /// What stands in the place of a user's id where nobody is to know it: `u_` and HMAC-SHA256 under a key of the operator's, in
    /// hexadecimal. What is a pseudonym already stays as it is, so that whoever reads one can ask for it.
    pub fn pseudonym(&self, user_id: &str) -> String {
        let digits = user_id.strip_prefix(PSEUDONYM).unwrap_or_default().as_bytes();
        if digits.len() == 64 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return user_id.to_owned();
        }
        PSEUDONYM.to_owned() + &HEXLOWER.encode(&self.keys.pseudonym(user_id))
    }

    /// A new database is begun with the key.
    fn begin_key(&self) -> Result<(), StoreError> {
        self.database.write(|on| {
            let sealed = self.keys.wrap.seal(KEY_WORD, KEY_CHECK)?;
            let begin = "INSERT INTO meta (name, value) VALUES ('key_check', ?1) ON CONFLICT (name) DO NOTHING";
            on.execute(begin, values![sealed]).map(|_| ())
        })
    }

    /// Whether the key is the one that the database was begun with; any is of one that was not begun.
    fn check_key(&self) -> Result<(), StoreError> {
        let query = "SELECT value FROM meta WHERE name = 'key_check'";
        let found = self.database.read(|on| on.first(query, &[])?.map(|mut row| row.bytes(0)).transpose())?;
        match found.map(|sealed| self.keys.wrap.open(&sealed, KEY_CHECK)) {
            None => Ok(()),
            Some(Ok(word)) if word == KEY_WORD => Ok(()),
            Some(_) => Err(StoreError::OtherKey { place: self.place() }),
        }
    }
}

/// SHA-256 of a message's text, in UTF-8.
pub fn text_digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millisecond)
}

fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

#[cfg(test)]
mod tests;
