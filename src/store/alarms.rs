//! Alarms: raised with a turn or with a look at an earlier one, acknowledged by a person, listed in the order in which they came.

use jiff::Timestamp;

use super::database::{Row, Statements, Value, values};
use super::turns::{of, text};
use super::users::Known;
use super::{NewAlarm, Store, StoreError, UserRow, time};
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

/// A person's look at the alarms of a user up to one.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub user_id: &'a str,
    /// The last alarm that the person looked at.
    pub up_to: i64,
    /// The row that it was judged by: [`Store::seen_up_to`].
    pub user: UserRow,
    /// What came after that alarm is worth this one.
    pub alarm: Option<NewAlarm<'a>>,
    pub by: &'a str,
    pub note: &'a str,
    pub now: Timestamp,
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

    /// Notes that a person saw every alarm of a user that waited, and all that was said; how many waited. `None` of a user who is not
    /// known.
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
        self.database.write(|on| {
            let Some(user) = self.known_alone(on, user_id)? else { return Ok(None) };
            let acknowledged = close(on, &user, i64::MAX, (by, note, now))?;
            if acknowledged > 0 {
                on.execute("UPDATE users SET seen_messages = messages WHERE id = ?1", values![user.id])?;
            }
            Ok(Some(acknowledged))
        })
    }

    /// How a user stands once a person has seen the alarms up to that one: by it [`Store::acknowledge_up_to`] is judged. `None` where that
    /// is no alarm of the user's, or neither it nor one before it waits.
    ///
    /// # Errors
    /// When the database fails.
    pub fn seen_up_to(&self, user_id: &str, up_to: i64) -> Result<Option<UserRow>, StoreError> {
        self.database.read(|on| self.row_seen(on, user_id, up_to))
    }

    fn row_seen(&self, on: &mut dyn Statements, user_id: &str, up_to: i64) -> Result<Option<UserRow>, StoreError> {
        let row = self.row_after(on, user_id, up_to)?;
        // Seen is what was kept when it was raised, the last of which it was raised at.
        let query = "SELECT number + 1 FROM alarms JOIN messages ON messages.owner = alarms.owner \
                     AND messages.session = alarms.session AND messages.message = alarms.message \
                     WHERE alarms.owner = ?1 AND alarms.id = ?2 AND EXISTS (SELECT 1 FROM alarms AS waiting \
                     WHERE waiting.owner = ?1 AND waiting.id <= ?2 AND waiting.acknowledged_ms IS NULL)";
        let seen = on.first(query, values![row.id, up_to])?.map(|seen| seen.number(0)).transpose()?;
        Ok(seen.map(|seen| UserRow { seen_messages: seen as u64, ..row }))
    }

    /// Notes that a person saw the alarms of a user up to one, and raises the alarm that what came after it is worth: nobody has looked at
    /// that, and whoever falls silent raises none. How many had waited, and the number of the alarm that was raised.
    ///
    /// # Errors
    /// [`StoreError::WentOn`] where the user stands otherwise than this was judged by; when the database fails. Then nothing is noted.
    pub fn acknowledge_up_to(&self, seen: &Seen) -> Result<(usize, Option<i64>), StoreError> {
        let Seen { user_id, up_to, user: judged, by, note, now, .. } = *seen;
        self.database.write(|on| {
            let user = self.known_alone(on, user_id)?.ok_or(StoreError::WentOn)?;
            if self.row_seen(on, user_id, up_to)? != Some(judged) {
                return Err(StoreError::WentOn);
            }
            let acknowledged = close(on, &user, up_to, (by, note, now))?;
            let set = "UPDATE users SET seen_messages = ?2 WHERE id = ?1";
            on.execute(set, values![user.id, judged.seen_messages as i64])?;
            let alarm = seen.alarm.as_ref().map(|alarm| keep_alarm(on, &user, &judged, (alarm, now))).transpose()?;
            Ok((acknowledged, alarm))
        })
    }
}

/// Notes it of the alarms of a user that wait, up to the one of that number; how many there were.
fn close(
    on: &mut dyn Statements,
    user: &Known,
    up_to: i64,
    (by, note, now): (&str, &str, Timestamp),
) -> Result<usize, StoreError> {
    let query = "SELECT id FROM alarms WHERE owner = ?1 AND acknowledged_ms IS NULL AND id <= ?2";
    let open = on.query(query, values![user.id, up_to])?;
    for row in &open {
        let id = row.number(0)?;
        let by = user.key.seal(by.as_bytes(), &of("by", id))?;
        let note = user.key.seal(note.as_bytes(), &of("note", id))?;
        on.execute(
            "UPDATE alarms SET acknowledged_ms = ?2, acknowledged_by = ?3, note = ?4 WHERE id = ?1",
            values![id, now.as_millisecond(), by, note],
        )?;
    }
    Ok(open.len())
}

/// Keeps an alarm of a user who stood so before; its number.
pub(super) fn keep_alarm(
    on: &mut dyn Statements,
    user: &Known,
    before: &UserRow,
    (alarm, now): (&NewAlarm, Timestamp),
) -> Result<i64, StoreError> {
    on.alone_with_alarms()?;
    let raised = on.first(
        "INSERT INTO alarms (owner, session, message, level, verdict, raised_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING id",
        values![
            user.id,
            alarm.at.session as i64,
            alarm.at.message as i64,
            alarm.level.as_str(),
            Value::Bytes(Vec::new()),
            now.as_millisecond()
        ],
    )?;
    let id = raised.ok_or(StoreError::Sealed)?.number(0)?;
    let verdict = user.key.seal(alarm.verdict, &of("verdict", id))?;
    on.execute("UPDATE alarms SET verdict = ?2 WHERE id = ?1", values![id, verdict])?;
    let levels = [alarm.arcs[0], alarm.arcs[1], alarm.level];
    let highest = |kind: usize| before.alarmed[kind].map_or(levels[kind], |before| before.max(levels[kind])).as_str();
    on.execute(
        "UPDATE users SET harassment_alarm = ?2, delusion_alarm = ?3, alarm = ?4 WHERE id = ?1",
        values![user.id, highest(0), highest(1), highest(2)],
    )?;
    Ok(id)
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
