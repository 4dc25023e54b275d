//! Alarms: raised with a turn, acknowledged by a person, listed in the order in which they came.

use jiff::Timestamp;

use super::database::{Row, Statements, Value, values};
use super::turns::{of, text};
use super::{Store, StoreError, time};
use crate::arc::MessageAt;
use crate::verdict::Level;

/// Alarms that one list holds.
pub const ALARMS_MAX: usize = 1_000;

/// Alarms, in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarms {
    pub alarms: Vec<Alarm>,
    /// Alarms beside them that do not open: `Store::check_whole` finds whose.
    pub unreadable: usize,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Rises with time; never given twice.
    pub id: i64,
    pub user_id: String,
    /// The message at which it was raised.
    pub at: MessageAt,
    pub level: Level,
    /// What led to it, in JSON, as it was then.
    pub verdict: Vec<u8>,
    pub raised_at: Option<Timestamp>,
    pub acknowledged: Option<Acknowledgement>,
}

/// That a person saw an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    pub at: Option<Timestamp>,
    pub by: String,
    pub note: String,
}

/// A row as it lies there.
struct Raw {
    id: i64,
    user: Vec<u8>,
    name: Vec<u8>,
    data_key: Vec<u8>,
    at: MessageAt,
    level: String,
    verdict: Vec<u8>,
    raised_ms: i64,
    acknowledged: Option<(i64, Vec<u8>, Vec<u8>)>,
}

const COLUMNS: &str = "SELECT alarms.id, users.digest, users.name, users.data_key, session, message, level, verdict, raised_ms, \
                       acknowledged_ms, acknowledged_by, note FROM alarms JOIN users ON users.id = alarms.owner";

impl Store {
    /// Alarms of every user after the one of that number, the oldest first, a thousand at most; those alone that wait for a person,
    /// where that is asked.
    ///
    /// # Errors
    /// When the database fails.
    pub fn alarms(&self, after: i64, open_only: bool) -> Result<Alarms, StoreError> {
        let open = if open_only { "AND acknowledged_ms IS NULL" } else { "" };
        let query = format!("{COLUMNS} WHERE alarms.id > ?1 {open} ORDER BY alarms.id LIMIT {ALARMS_MAX}");
        self.list(&query, values![after])
    }

    /// The number of the last alarm of any user; 0 before the first.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_alarm(&self) -> Result<i64, StoreError> {
        let query = "SELECT COALESCE(MAX(id), 0) FROM alarms";
        self.database.read(|on| on.first(query, &[])?.map_or(Ok(0), |row| row.number(0)))
    }

    /// Alarms of one user, the oldest first; of more than a thousand the last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn alarms_of(&self, user_id: &str) -> Result<Alarms, StoreError> {
        let query = format!("{COLUMNS} WHERE users.digest = ?1 ORDER BY alarms.id DESC LIMIT {ALARMS_MAX}");
        let mut alarms = self.list(&query, values![self.keys.lookup(user_id)])?;
        alarms.alarms.reverse();
        Ok(alarms)
    }

    fn list(&self, query: &str, values: &[Value]) -> Result<Alarms, StoreError> {
        let rows = self.database.read(|on| on.query(query, values))?;
        let raw = rows.into_iter().map(raw).collect::<Result<Vec<Raw>, _>>()?;
        // One that does not open must not hide the others.
        let mut list = Alarms { alarms: Vec::with_capacity(raw.len()), unreadable: 0 };
        for raw in raw {
            match self.alarm(raw) {
                Ok(alarm) => list.alarms.push(alarm),
                Err(StoreError::Sealed) => list.unreadable += 1,
                Err(other) => return Err(other),
            }
        }
        Ok(list)
    }

    fn alarm(&self, raw: Raw) -> Result<Alarm, StoreError> {
        let key = self.keys.unwrap(&raw.data_key, &raw.user)?;
        let acknowledged = match raw.acknowledged {
            Some((at, by, note)) => Some(Acknowledgement {
                at: time(Some(at)),
                by: text(&key, &by, &of("by", raw.id))?,
                note: text(&key, &note, &of("note", raw.id))?,
            }),
            None => None,
        };
        Ok(Alarm {
            id: raw.id,
            user_id: text(&key, &raw.name, b"user")?,
            at: raw.at,
            level: raw.level.parse().map_err(|_| StoreError::Sealed)?,
            verdict: key.open(&raw.verdict, &of("verdict", raw.id))?,
            raised_at: time(Some(raw.raised_ms)),
            acknowledged,
        })
    }

    /// Notes that a person saw every alarm of a user that waited; how many there were. `None` of a user who is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn acknowledge(
        &self,
        user_id: &str,
        by: &str,
        note: &str,
        now: Timestamp,
    ) -> Result<Option<usize>, StoreError> {
        self.acknowledge_up_to(user_id, None, by, note, now)
    }

    /// The same of the alarm of that number and those before it, where one is named: what came after it nobody looked at, and it counts
    /// as new. Of a number that is no alarm of the user's, none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn acknowledge_up_to(
        &self,
        user_id: &str,
        up_to: Option<i64>,
        by: &str,
        note: &str,
        now: Timestamp,
    ) -> Result<Option<usize>, StoreError> {
        self.database.write(|on| {
            let Some(user) = self.known_alone(on, user_id)? else { return Ok(None) };
            let Some(seen) = seen_messages(on, user.id, up_to)? else { return Ok(Some(0)) };
            let query = "SELECT id FROM alarms WHERE owner = ?1 AND acknowledged_ms IS NULL AND id <= ?2";
            let open = on.query(query, values![user.id, up_to.unwrap_or(i64::MAX)])?;
            for row in &open {
                let id = row.number(0)?;
                let by = user.key.seal(by.as_bytes(), &of("by", id))?;
                let note = user.key.seal(note.as_bytes(), &of("note", id))?;
                on.execute(
                    "UPDATE alarms SET acknowledged_ms = ?2, acknowledged_by = ?3, note = ?4 WHERE id = ?1",
                    values![id, now.as_millisecond(), by, note],
                )?;
            }
            if !open.is_empty() {
                on.execute("UPDATE users SET seen_messages = ?2 WHERE id = ?1", values![user.id, seen])?;
            }
            Ok(Some(open.len()))
        })
    }
}

/// How many messages of a user's a person saw who looked at that alarm: those that were kept with it, the last of which it was raised at;
/// without one, all there are. `None` where the user has no such alarm.
fn seen_messages(on: &mut dyn Statements, owner: i64, up_to: Option<i64>) -> Result<Option<i64>, StoreError> {
    let found = match up_to {
        None => on.first("SELECT messages FROM users WHERE id = ?1", values![owner])?,
        Some(alarm) => {
            let query = "SELECT number + 1 FROM alarms JOIN messages ON messages.owner = alarms.owner \
                         AND messages.session = alarms.session AND messages.message = alarms.message \
                         WHERE alarms.owner = ?1 AND alarms.id = ?2";
            on.first(query, values![owner, alarm])?
        }
    };
    found.map(|row| row.number(0)).transpose()
}

fn raw(mut row: Row) -> Result<Raw, StoreError> {
    let acknowledged = match row.maybe_number(9)? {
        Some(at) => Some((at, row.bytes(10)?, row.bytes(11)?)),
        None => None,
    };
    Ok(Raw {
        id: row.number(0)?,
        user: row.bytes(1)?,
        name: row.bytes(2)?,
        data_key: row.bytes(3)?,
        at: MessageAt { session: row.number(4)? as usize, message: row.number(5)? as usize },
        level: row.text(6)?.to_owned(),
        verdict: row.bytes(7)?,
        raised_ms: row.number(8)?,
        acknowledged,
    })
}
