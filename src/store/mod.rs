//! What is kept of users: what was said, what was made of it, alarms and what people did about them. An SQLite database in one folder.
//!
//! The log of messages with their scores is the truth; whatever else is told of a user is computed from it, so that nothing derived
//! can go stale. A turn is kept whole or not at all, in one transaction that also holds its idempotency key and its answer, and
//! is on the disk (`synchronous = FULL`) when [`Store::keep`] returns.
//!
//! Nothing readable lies there but counts, places, times and levels: ids are looked up by an HMAC, and ids, messages, scores, answers and
//! notes are sealed (`seal`) under a key of each user's own, which is itself sealed under the operator's. Erasing a user
//! destroys that key. Must not know models, HTTP, or policies beyond the level of an alarm.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::arc::MessageAt;
use crate::scoring::MessageScore;
use crate::transcript::Role;
use crate::verdict::Level;

mod alarms;
mod schema;
mod seal;
mod turns;

pub use alarms::{Acknowledgement, Alarm, Alarms};
pub use seal::MasterKey;
use seal::{DataKey, Keys};

/// The database's file in its folder.
const FILE: &str = "throughline.sqlite";
/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot open {}: {cause}; hint: the folder must exist and be writable by this user", .file.display())]
    Open { file: PathBuf, cause: rusqlite::Error },
    #[error(
        "{} was written with another key; hint: give the key that it was begun with (--key-file or THROUGHLINE_KEY): without it nothing in it can be read",
        .file.display()
    )]
    OtherKey { file: PathBuf },
    #[error("{} has the form {found}, this build reads up to {known}; hint: use a newer build", .file.display())]
    Newer { file: PathBuf, found: i64, known: i64 },
    #[error("the disk is full; hint: free some space: nothing that was acknowledged is lost")]
    Full,
    #[error(
        "the database cannot be written; hint: check the folder's permissions and that its disk is not mounted read-only"
    )]
    ReadOnly,
    #[error("the database is damaged ({0}); hint: stop, keep a copy of the folder, and restore a backup")]
    Damaged(String),
    #[error("another process held the database for {} seconds; hint: one server a folder", BUSY_TIMEOUT.as_secs())]
    Busy,
    /// What the caller read is not what is kept any more: another process wrote.
    #[error("the history of this user went on meanwhile; hint: read it again")]
    WentOn,
    #[error("this user's history is under legal hold; hint: lift the hold first")]
    Held,
    #[error("a sealed value does not open; hint: the database was changed by hand, or is damaged")]
    Sealed,
    #[error("the system gives no random numbers")]
    Random,
    #[error("the database failed: {0}")]
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let rusqlite::Error::SqliteFailure(failure, _) = &error else { return Self::Other(error) };
        match failure.code {
            ErrorCode::DiskFull => Self::Full,
            ErrorCode::ReadOnly => Self::ReadOnly,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Damaged(error.to_string()),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy,
            _ => Self::Other(error),
        }
    }
}

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

/// The database. One connection: writes of one process never meet.
pub struct Store {
    connection: Mutex<Connection>,
    keys: Keys,
    file: PathBuf,
    /// Whether the log of writes still has pages of somebody who was erased.
    uncut: AtomicBool,
}

impl Store {
    /// Opens the database in a folder, and makes it where there is none.
    ///
    /// # Errors
    /// When the folder cannot be written, the key is not the one it was begun with, or a newer build wrote it.
    pub fn open(folder: &Path, key: &MasterKey) -> Result<Self, StoreError> {
        let file = folder.join(FILE);
        let cannot = |cause| StoreError::Open { file: file.clone(), cause };
        make_private(&file);
        let mut connection = Connection::open(&file).map_err(cannot)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        schema::settings(&connection).map_err(|error| match StoreError::from(error) {
            StoreError::Other(cause) => cannot(cause),
            other => other,
        })?;
        schema::migrate(&mut connection, &file)?;
        let keys = Keys::of(key);
        let store = Self { connection: Mutex::new(connection), keys, file, uncut: AtomicBool::new(false) };
        store.check_key()?;
        Ok(store)
    }

    /// The database's file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// HMAC-SHA256 of anything under a key of the operator's, for comparing.
    pub fn digest(&self, of: &[u8]) -> [u8; 32] {
        self.keys.digest(of)
    }

    fn check_key(&self) -> Result<(), StoreError> {
        const WORD: &[u8] = b"throughline";
        let connection = self.lock();
        let sealed: Option<Vec<u8>> =
            connection.query_row("SELECT value FROM meta WHERE name = 'key_check'", [], |row| row.get(0)).optional()?;
        match sealed {
            Some(sealed) => match self.keys.wrap.open(&sealed, b"key check") {
                Ok(word) if word == WORD => Ok(()),
                _ => Err(StoreError::OtherKey { file: self.file.clone() }),
            },
            None => {
                let sealed = self.keys.wrap.seal(WORD, b"key check")?;
                connection.execute("INSERT INTO meta (name, value) VALUES ('key_check', ?1)", [sealed])?;
                Ok(())
            }
        }
    }

    /// How a user stands; all zero of one who is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn user(&self, user_id: &str) -> Result<UserRow, StoreError> {
        let connection = self.lock();
        let row = connection
            .query_row(
                "SELECT id, messages, sessions, harassment_alarm, delusion_alarm, alarm, seen_messages, held, \
                 EXISTS (SELECT 1 FROM alarms WHERE alarms.user = users.id AND acknowledged_ms IS NULL) \
                 FROM users WHERE digest = ?1",
                [self.keys.lookup(user_id)],
                |row| {
                    let level = |column| -> rusqlite::Result<Option<Level>> {
                        Ok(row.get::<_, Option<String>>(column)?.and_then(|level| level.parse().ok()))
                    };
                    Ok(UserRow {
                        id: row.get(0)?,
                        messages: row.get::<_, i64>(1)? as u64,
                        sessions: row.get::<_, i64>(2)? as u64,
                        alarmed: [level(3)?, level(4)?, level(5)?],
                        seen_messages: row.get::<_, i64>(6)? as u64,
                        held: row.get(7)?,
                        open_alarm: row.get(8)?,
                    })
                },
            )
            .optional()?;
        Ok(row.unwrap_or_default())
    }

    /// Forgets a user: what was said, scores, alarms, and the key that they were sealed under. Whether there was anything.
    ///
    /// # Errors
    /// When the user is under legal hold, or the database fails.
    pub fn erase(&self, user_id: &str) -> Result<bool, StoreError> {
        let erased = self.write(|transaction| {
            // Without the key: who can no longer be read can still be erased.
            let row: Option<(i64, bool)> = transaction
                .query_row("SELECT id, held FROM users WHERE digest = ?1", [self.keys.lookup(user_id)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((id, held)) = row else { return Ok(false) };
            if held {
                return Err(StoreError::Held);
            }
            for table in ["messages", "sessions", "requests", "alarms"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE user = ?1"), [id])?;
            }
            transaction.execute("DELETE FROM users WHERE id = ?1", [id])?;
            Ok(true)
        })?;
        if erased {
            self.uncut.store(true, Ordering::Relaxed);
            self.cut();
        }
        Ok(erased)
    }

    /// Writes back and cuts the log of writes, which still has the pages of those who were erased; whether it is cut. While another
    /// process reads, it cannot be: the next turn tries again.
    pub fn cut(&self) -> bool {
        if !self.uncut.load(Ordering::Relaxed) {
            return true;
        }
        let connection = self.lock();
        let cut = || -> rusqlite::Result<bool> {
            connection.busy_timeout(Duration::ZERO)?;
            let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            connection.busy_timeout(BUSY_TIMEOUT)?;
            Ok(busy? == 0)
        };
        let done = cut().unwrap_or(false);
        self.uncut.store(!done, Ordering::Relaxed);
        done
    }

    /// Sets or lifts a legal hold, under which nothing of a user is erased; whether the user is known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn hold(&self, user_id: &str, held: bool) -> Result<bool, StoreError> {
        let digest = self.keys.lookup(user_id);
        Ok(self.lock().execute("UPDATE users SET held = ?2 WHERE digest = ?1", params![digest, held])? > 0)
    }

    /// The number of users, messages, and alarms that wait for a person.
    ///
    /// # Errors
    /// When the database fails.
    pub fn counts(&self) -> Result<[u64; 3], StoreError> {
        let of = "SELECT (SELECT COUNT(*) FROM users), (SELECT COALESCE(SUM(messages), 0) FROM users), \
                  (SELECT COUNT(*) FROM alarms WHERE acknowledged_ms IS NULL)";
        let counted = self.lock().query_row(of, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
        Ok(counted.map(|count: i64| count as u64))
    }

    /// The last alarm that a webhook of this name took; of one that is new, the last there is: it begins with the next.
    ///
    /// # Errors
    /// When the database fails.
    pub fn webhook_begins(&self, name: &str) -> Result<i64, StoreError> {
        let row = format!("webhook {name}");
        self.write(|transaction| {
            let begin =
                "INSERT OR IGNORE INTO meta (name, value) SELECT ?1, CAST(COALESCE(MAX(id), 0) AS BLOB) FROM alarms";
            transaction.execute(begin, [&row])?;
            let value: Vec<u8> =
                transaction.query_row("SELECT value FROM meta WHERE name = ?1", [&row], |row| row.get(0))?;
            String::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(StoreError::Sealed)
        })
    }

    /// A webhook of this name took the alarm.
    ///
    /// # Errors
    /// When the database fails.
    pub fn webhook_came_to(&self, name: &str, alarm: i64) -> Result<(), StoreError> {
        let value = alarm.to_string().into_bytes();
        let update = "UPDATE meta SET value = ?2 WHERE name = ?1";
        self.lock().execute(update, params![format!("webhook {name}"), value])?;
        Ok(())
    }

    /// Whether it can be written now.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('written', x'00')", [])?;
            Ok(())
        })
    }

    /// Goes through every page and opens everything that is sealed; what is wrong, if anything.
    ///
    /// # Errors
    /// When the database fails.
    pub fn check_whole(&self) -> Result<Option<String>, StoreError> {
        let told: String = self.lock().query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if told != "ok" {
            return Ok(Some(told));
        }
        let users = {
            let connection = self.lock();
            let mut statement = connection.prepare("SELECT digest, name, data_key FROM users ORDER BY id")?;
            let row = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            statement.query_map([], row)?.collect::<Result<Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>, _>>()?
        };
        let mut broken = 0;
        for (digest, name, sealed) in &users {
            let opens = self.keys.unwrap(sealed, digest).and_then(|key| {
                let user_id = turns::text(&key, name, b"user")?;
                if self.keys.lookup(&user_id)[..] != digest[..] {
                    return Err(StoreError::Sealed);
                }
                self.history(&user_id)?;
                self.alarms_of(&user_id)
            });
            match opens {
                Ok(alarms) if alarms.unreadable == 0 => {}
                Ok(_) | Err(StoreError::Sealed) => broken += 1,
                Err(other) => return Err(other),
            }
        }
        let all = users.len();
        Ok((broken > 0).then(|| format!("of {broken} of {all} users something that is sealed does not open")))
    }

    /// Writes a whole copy to a new file, while others go on.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        let cannot = |cause| StoreError::Open { file: to.to_owned(), cause };
        // An empty file is written into; any other is refused.
        make_private(to);
        self.lock().execute("VACUUM INTO ?1", [to.to_string_lossy()]).map_err(cannot)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic within a transaction rolled it back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// The row of a user who is known, and the key of what is kept of them.
    fn known(&self, connection: &Connection, user_id: &str) -> Result<Option<(i64, DataKey)>, StoreError> {
        let digest = self.keys.lookup(user_id);
        let row: Option<(i64, Vec<u8>)> = connection
            .query_row("SELECT id, data_key FROM users WHERE digest = ?1", [digest], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((id, sealed)) = row else { return Ok(None) };
        Ok(Some((id, self.keys.unwrap(&sealed, &digest)?)))
    }
}

/// Makes an empty file that nobody else may read, unless there is one; the database's own files beside it take after it.
fn make_private(file: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Where it cannot be made, opening it tells why.
    let _ = options.open(file);
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millisecond)
}

fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.and_then(|millis| Timestamp::from_millisecond(millis).ok())
}

#[cfg(test)]
mod tests;
