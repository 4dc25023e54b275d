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
            let value = found.ok_or(StoreError::Sealed)?.bytes(0)?;
            String::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(StoreError::Sealed)
        })
    }

    /// A webhook of this name took the alarm.
    ///
    /// # Errors
    /// When the database fails.
    pub fn webhook_came_to(&self, name: &str, alarm: i64) -> Result<(), StoreError> {
        let value = alarm.to_string().into_bytes();
        self.database.write(|on| {
            on.execute("UPDATE meta SET value = ?2 WHERE name = ?1", values![row(name).as_str(), value.clone()])?;
            Ok(())
        })
    }
}

/// The webhook's row among what is kept once.
fn row(name: &str) -> String {
    format!("webhook {name}")
}
