//! How far webhooks came.

use super::database::values;
use super::{Store, StoreError};

impl Store {
    /// The last alarm that a webhook of this name took; of one that is new, the last there is: it begins with the next.
    ///
    /// # Errors
    /// When the database fails.
    pub fn webhook_begins(&self, name: &str) -> Result<i64, StoreError> {
        let last = self.last_alarm()?.to_string().into_bytes();
        self.database.write(|on| {
            let begin = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
            on.execute(begin, values![row(name).as_str(), last.clone()])?;
            let found = on.first("SELECT value FROM meta WHERE name = ?1", values![row(name).as_str()])?;
            number(found.ok_or(StoreError::Sealed)?.bytes(0)?)
        })
    }

    /// A webhook of this name took the alarm.
    ///
    /// # Errors
    /// When the database fails.
    pub fn webhook_came_to(&self, name: &str, alarm: i64) -> Result<(), StoreError> {
        let value = alarm.to_string().into_bytes();
        self.database.write(|on| {
            // Of servers that send the same, one that is behind takes nothing back.
            let query = format!("SELECT value FROM meta WHERE name = ?1{}", on.locking());
            let found = on.first(&query, values![row(name).as_str()])?;
            if found.map_or(Ok(true), |mut row| number(row.bytes(0)?).map(|before| before < alarm))? {
                on.execute("UPDATE meta SET value = ?2 WHERE name = ?1", values![row(name).as_str(), value.clone()])?;
            }
            Ok(())
        })
    }
}

fn number(value: Vec<u8>) -> Result<i64, StoreError> {
    String::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(StoreError::Sealed)
}

/// The webhook's row among what is kept once.
fn row(name: &str) -> String {
    format!("webhook {name}")
}
