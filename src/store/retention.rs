//! How long something is kept: what was said is dropped when it is old, and whoever is silent for long is forgotten. By the clock of the
//! machine, which is an argument here.
//!
//! A legal hold stops both, and so does an alarm that waits for a person: nobody has looked yet. Scores, digests, arcs and alarms stay when content
//! goes; what comes after is judged in windows that begin behind it.

use jiff::Timestamp;

use super::database::{Statements, values};
use super::users::forget;
use super::{Store, StoreError};

const DAY_MS: i64 = 86_400_000;
/// Users that one step goes through: others write between two of them, and read between two steps.
const STEP_USERS_MAX: usize = 16;
/// Messages whose content goes at once.
const STEP_MESSAGES_MAX: i64 = 1_000;
/// Whom retention may touch.
const FREE: &str =
    "held = 0 AND NOT EXISTS (SELECT 1 FROM alarms WHERE alarms.owner = users.id AND acknowledged_ms IS NULL)";

/// How long something is kept; for good where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// What was said: days since it came.
    pub content_days: Option<u32>,
    /// Everything of a user: days since their last turn.
    pub days: Option<u32>,
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Rows of users of whom something went.
    pub users: Vec<i64>,
    /// Users who were erased.
    pub erased: u64,
    /// Messages that lost their content.
    pub dropped: u64,
    /// Whether there may be more to do.
    pub more: bool,
}

impl Store {
    /// Takes a step: erases a few users, and drops old content of a few. Ask again while there is more.
    ///
    /// # Errors
    /// When the database fails; what was done before stays done.
    pub fn retain(&self, retention: &Retention, now: Timestamp) -> Result<Retained, StoreError> {
        let before = |days: u32| now.as_millisecond() - i64::from(days) * DAY_MS;
        let mut done = Retained::default();
        for _ in 0..STEP_USERS_MAX {
            let erased = match retention.days {
                Some(days) => self.database.write(|on| erase_silent(on, before(days)))?,
                None => None,
            };
            let dropped = match retention.content_days {
                Some(days) => match self.database.write(|on| drop_content(on, before(days))) {
                    // Somebody else came first; the next step sees what they left.
                    Err(StoreError::WentOn) => {
                        done.more = true;
                        break;
                    }
                    dropped => dropped?,
                },
                None => None,
            };
            done.erased += u64::from(erased.is_some());
            done.dropped += dropped.map_or(0, |(_, messages)| messages);
            done.users.extend(erased.into_iter().chain(dropped.map(|(user, _)| user)));
            done.more = erased.is_some() || dropped.is_some();
            if !done.more {
                break;
            }
        }
        if !done.users.is_empty() {
            self.database.deleted();
        }
        Ok(done)
    }
}

/// Erases the one who is silent for longest, if that is since before that time; their row.
fn erase_silent(on: &mut dyn Statements, before_ms: i64) -> Result<Option<i64>, StoreError> {
    let query = format!("SELECT id FROM users WHERE last_ms < ?1 AND {FREE} ORDER BY last_ms LIMIT 1{}", on.locking());
    let Some(row) = on.first(&query, values![before_ms])? else { return Ok(None) };
    let id = row.number(0)?;
    forget(on, id)?;
    Ok(Some(id))
}

/// Drops the content of a user's messages from before that time, and of all before them, so that no hole is left where a clock was set
/// back; their row, and of how many messages.
fn drop_content(on: &mut dyn Statements, before_ms: i64) -> Result<Option<(i64, u64)>, StoreError> {
    let oldest = format!(
        "SELECT users.id FROM messages JOIN users ON users.id = messages.owner \
         WHERE content IS NOT NULL AND kept_ms < ?1 AND {FREE} ORDER BY kept_ms LIMIT 1"
    );
    let Some(row) = on.first(&oldest, values![before_ms])? else { return Ok(None) };
    let id = row.number(0)?;
    // The user's row first, as everybody does: two that wait for each other's would wait for ever.
    let lock = format!("SELECT dropped FROM users WHERE id = ?1 AND {FREE}{}", on.locking());
    let Some(row) = on.first(&lock, values![id])? else { return Err(StoreError::WentOn) };
    let dropped = row.number(0)?;
    let last = "SELECT MAX(number) FROM messages WHERE owner = ?1 AND content IS NOT NULL AND kept_ms < ?2";
    let last = on.first(last, values![id, before_ms])?.map_or(Ok(None), |row| row.maybe_number(0))?;
    let Some(last) = last else { return Err(StoreError::WentOn) };
    let first = "SELECT MIN(number) FROM messages WHERE owner = ?1 AND content IS NOT NULL";
    let first = on.first(first, values![id])?.map_or(Ok(None), |row| row.maybe_number(0))?.unwrap_or(last);
    let end = (last + 1).min(first + STEP_MESSAGES_MAX);
    let set = "UPDATE messages SET content = NULL WHERE owner = ?1 AND number < ?2 AND content IS NOT NULL";
    let messages = on.execute(set, values![id, end])?;
    on.execute("UPDATE users SET dropped = ?2 WHERE id = ?1", values![id, end.max(dropped)])?;
    Ok(Some((id, messages)))
}
