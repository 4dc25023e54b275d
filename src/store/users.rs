//! A user's row: how they stand, legal hold, erasure.

use jiff::Timestamp;

use super::database::{Row, Statements, values};
use super::seal::DataKey;
use super::{Store, StoreError, UserRow};
use crate::verdict::Level;

/// The row of a user who is known, and the key of what is kept of them.
pub(super) struct Known {
    pub id: i64,
    pub key: DataKey,
}

impl Store {
    /// How a user stands; all zero of one who is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn user(&self, user_id: &str) -> Result<UserRow, StoreError> {
        self.database.read(|on| self.row_after(on, user_id, 0))
    }

    /// The same, and of the alarms that wait those alone that came after the one of that number.
    pub(super) fn row_after(&self, on: &mut dyn Statements, user_id: &str, alarm: i64) -> Result<UserRow, StoreError> {
        let row = on.first(
            "SELECT id, messages, sessions, harassment_alarm, delusion_alarm, alarm, seen_messages, dropped, held, \
             (SELECT MAX(CAST(CASE level WHEN 'urgent' THEN 4 WHEN 'senior' THEN 3 WHEN 'review' THEN 2 ELSE 1 END AS BIGINT)) \
             FROM alarms WHERE owner = users.id AND acknowledged_ms IS NULL AND alarms.id > ?2) \
             FROM users WHERE digest = ?1",
            values![self.keys.lookup(user_id), alarm],
        )?;
        row.as_ref().map_or(Ok(UserRow::default()), user_row)
    }

    /// Forgets a user: what was said, scores, alarms, and the key that they were sealed under. Whether there was anything.
    ///
    /// # Errors
    /// When the user is under legal hold, or the database fails.
    pub fn erase(&self, user_id: &str) -> Result<bool, StoreError> {
        let digest = self.keys.lookup(user_id);
        let erased = self.database.write(|on| {
            // Without the key: who can no longer be read can still be erased.
            let query = format!("SELECT id, held FROM users WHERE digest = ?1{}", on.locking());
            let Some(row) = on.first(&query, values![digest])? else { return Ok(false) };
            if row.number(1)? != 0 {
                return Err(StoreError::Held);
            }
            forget(on, row.number(0)?)?;
            Ok(true)
        })?;
        if erased {
            self.database.deleted();
        }
        Ok(erased)
    }

    /// Whether nothing of the erased lies in the log of writes any more; cuts it where it does. While another process reads, it cannot be:
    /// the next turn tries again.
    pub fn cut(&self) -> bool {
        self.database.cut()
    }

    /// Sets or lifts a legal hold, under which nothing of a user is erased; a user who is not known yet is noted, so that it holds from
    /// the first turn on. Whether there was anything to lift.
    ///
    /// # Errors
    /// When the database fails.
    pub fn hold(&self, user_id: &str, held: bool, now: Timestamp) -> Result<bool, StoreError> {
        let digest = self.keys.lookup(user_id);
        self.database.write(|on| {
            if held {
                self.new_user(on, user_id, now)?;
            }
            let set = "UPDATE users SET held = ?2 WHERE digest = ?1";
            Ok(on.execute(set, values![digest, i64::from(held)])? > 0)
        })
    }

    /// Makes the row of a user, unless there is one.
    pub(super) fn new_user(
        &self,
        on: &mut dyn Statements,
        user_id: &str,
        now: Timestamp,
    ) -> Result<Option<Known>, StoreError> {
        let digest = self.keys.lookup(user_id);
        let (key, sealed) = self.keys.new_user(&digest)?;
        let name = key.seal(user_id.as_bytes(), b"user")?;
        // Where another server makes it at the same time, this waits for the other, and then gives no row.
        let made = on.first(
            "INSERT INTO users (digest, name, data_key, created_ms, last_ms) VALUES (?1, ?2, ?3, ?4, ?4) \
             ON CONFLICT (digest) DO NOTHING RETURNING id",
            values![digest, name, sealed, now.as_millisecond()],
        )?;
        made.map(|row| Ok(Known { id: row.number(0)?, key })).transpose()
    }

    pub(super) fn known(&self, on: &mut dyn Statements, user_id: &str) -> Result<Option<Known>, StoreError> {
        let digest = self.keys.lookup(user_id);
        let Some(mut row) = on.first("SELECT id, data_key FROM users WHERE digest = ?1", values![digest])? else {
            return Ok(None);
        };
        Ok(Some(Known { id: row.number(0)?, key: self.keys.unwrap(&row.bytes(1)?, &digest)? }))
    }

    /// The same, and nobody else changes the row until the transaction is over.
    pub(super) fn known_alone(&self, on: &mut dyn Statements, user_id: &str) -> Result<Option<Known>, StoreError> {
        let query = format!("SELECT id FROM users WHERE digest = ?1{}", on.locking());
        on.first(&query, values![self.keys.lookup(user_id)])?;
        self.known(on, user_id)
    }
}

/// Deletes a user's rows.
pub(super) fn forget(on: &mut dyn Statements, id: i64) -> Result<(), StoreError> {
    for table in ["messages", "sessions", "requests", "alarms"] {
        on.execute(&format!("DELETE FROM {table} WHERE owner = ?1"), values![id])?;
    }
    on.execute("DELETE FROM users WHERE id = ?1", values![id])?;
    Ok(())
}

fn user_row(row: &Row) -> Result<UserRow, StoreError> {
    let level = |column| -> Result<Option<Level>, StoreError> {
        Ok(row.maybe_text(column)?.and_then(|level| level.parse().ok()))
    };
    Ok(UserRow {
        id: row.number(0)?,
        messages: row.number(1)? as u64,
        sessions: row.number(2)? as u64,
        alarmed: [level(3)?, level(4)?, level(5)?],
        seen_messages: row.number(6)? as u64,
        dropped: row.number(7)? as u64,
        held: row.number(8)? != 0,
        // By the level's place among all.
        open_alarm: row.maybe_number(9)?.and_then(|place| Level::ALL.get(usize::try_from(place).ok()?).copied()),
    })
}
