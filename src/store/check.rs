//! Whether all is well, how much there is, and a copy of it.

use std::path::Path;

use super::database::values;
use super::turns::text;
use super::{Store, StoreError};

/// Read from an index of those alone: neither users nor alarms that somebody saw are gone through.
pub(super) const OPEN_ALARMS: &str = "SELECT COUNT(*) FROM alarms WHERE acknowledged_ms IS NULL";

impl Store {
    /// The number of users, messages, and alarms that wait for a person.
    ///
    /// # Errors
    /// When the database fails.
    pub fn counts(&self) -> Result<[u64; 3], StoreError> {
        let of = format!(
            "SELECT (SELECT COUNT(*) FROM users), (SELECT CAST(COALESCE(SUM(messages), 0) AS BIGINT) FROM users), ({OPEN_ALARMS})"
        );
        self.database.read(|on| {
            let row = on.first(&of, &[])?.ok_or(StoreError::Sealed)?;
            Ok([row.number(0)? as u64, row.number(1)? as u64, row.number(2)? as u64])
        })
    }

    /// The number of alarms that wait for a person, without going through anything else.
    ///
    /// # Errors
    /// When the database fails.
    pub fn open_alarms(&self) -> Result<u64, StoreError> {
        self.database.read(|on| Ok(on.first(OPEN_ALARMS, &[])?.ok_or(StoreError::Sealed)?.number(0)? as u64))
    }

    /// Whether it can be written now, and there is room for more.
    ///
    /// # Errors
    /// When it cannot, or there is not.
    pub fn check_writable(&self) -> Result<(), StoreError> {
        self.database.check_room()?;
        self.database.write(|on| {
            let write = "INSERT INTO meta (name, value) VALUES ('written', ?1) \
                         ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            on.execute(write, values![vec![0_u8]]).map(|_| ())
        })
    }

    /// Goes through every page (of SQLite; PostgreSQL has tools of its own for that) and opens everything that is sealed; what is wrong, if
    /// anything.
    ///
    /// # Errors
    /// When the database fails.
    pub fn check_whole(&self) -> Result<Option<String>, StoreError> {
        if let Some(told) = self.database.broken()? {
            return Ok(Some(told));
        }
        let users = self.database.read(|on| on.query("SELECT digest, name, data_key FROM users ORDER BY id", &[]))?;
        let (mut broken, all) = (0, users.len());
        for mut row in users {
            let (digest, name, sealed) = (row.bytes(0)?, row.bytes(1)?, row.bytes(2)?);
            let opens = self.keys.unwrap(&sealed, &digest).and_then(|key| {
                let user_id = text(&key, &name, b"user")?;
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
        Ok((broken > 0).then(|| format!("of {broken} of {all} users something that is sealed does not open")))
    }

    /// Writes a whole copy to a new file, while others go on; a database of an older form is copied as it is. It has that name once it is
    /// whole and on the disk; until then it is written to FILE.partial beside it.
    ///
    /// # Errors
    /// When the file exists or cannot be written; of PostgreSQL, which has a tool of its own for it.
    pub fn back_up(&self, to: &Path) -> Result<(), StoreError> {
        self.database.back_up(to)
    }
}
