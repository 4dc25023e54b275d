//! Turns: kept whole, read again in order.

use std::ops::Range;

use jiff::Timestamp;

use super::alarms::keep_alarm;
use super::database::{Row, Statements, values};
use super::seal::DataKey;
use super::users::Known;
use super::{Answered, KeptMessage, KeptSession, NewTurn, Request, Store, StoreError, UserRow, millis, time};
use crate::arc::MessageAt;
use crate::scoring::MessageScore;
use crate::transcript::Role;

/// How long a request's answer is given again: a week.
const REQUESTS_KEPT_MS: i64 = 7 * 86_400_000;

impl Store {
    /// Keeps a turn: its messages, the alarm it raised, and the answer to its request. The user's row, and the alarm's number if there is one.
    ///
    /// # Errors
    /// [`StoreError::WentOn`] where other messages came meanwhile, or a person acknowledged alarms; when the database fails. Then
    /// nothing of the turn is kept, but for [`StoreError::Unsure`]: then [`Store::answered`] tells whether it was, of a turn with an
    /// idempotency key. That holds though the database may still be at it: whoever keeps the turn once more waits for the user's row, finds
    /// other counts than were read, and asks again.
    pub fn keep(&self, turn: &NewTurn) -> Result<(i64, Option<i64>), StoreError> {
        self.cut();
        self.database.write(|on| {
            let user = self.judged(on, turn)?;
            let (messages, mut sessions) = (turn.user.messages as i64, turn.user.sessions as i64);
            if let Some((session_id, started_at)) = turn.new_session {
                let name = user.key.seal(session_id.as_bytes(), &of("session", sessions))?;
                on.execute(
                    "INSERT INTO sessions (owner, session, name, started_ms) VALUES (?1, ?2, ?3, ?4)",
                    values![user.id, sessions, name, millis(started_at)],
                )?;
                sessions += 1;
            }
            for (number, message) in (messages..).zip(turn.messages) {
                keep_message(on, &user, (number, turn.now), message)?;
            }
            // A clock that was set back makes nobody silent for longer.
            on.execute(
                "UPDATE users SET messages = ?2, sessions = ?3, last_ms = CASE WHEN last_ms < ?4 THEN ?4 ELSE last_ms END \
                 WHERE id = ?1",
                values![user.id, messages + turn.messages.len() as i64, sessions, turn.now.as_millisecond()],
            )?;
            let alarm = turn.alarm.as_ref();
            let alarm = alarm.map(|alarm| keep_alarm(on, &user, &turn.user, (alarm, turn.now))).transpose()?;
            if let Some(request) = &turn.request {
                self.keep_request(on, &user, (request, alarm, turn.now))?;
            }
            Ok((user.id, alarm))
        })
    }

    fn keep_request(
        &self,
        on: &mut dyn Statements,
        user: &Known,
        (request, alarm, now): (&Request, Option<i64>, Timestamp),
    ) -> Result<(), StoreError> {
        let digest = self.keys.lookup(request.key);
        let answer = user.key.seal(&(request.answer)(alarm), &[&b"answer"[..], &digest].concat())?;
        on.execute(
            "DELETE FROM requests WHERE owner = ?1 AND created_ms < ?2",
            values![user.id, now.as_millisecond() - REQUESTS_KEPT_MS],
        )?;
        let kept = on.execute(
            "INSERT INTO requests (owner, digest, asked, answer, created_ms) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (owner, digest) DO NOTHING",
            values![user.id, digest, request.asked, answer, now.as_millisecond()],
        )?;
        if kept == 1 { Ok(()) } else { Err(StoreError::WentOn) }
    }

    /// The user's row, locked, if it is the one that the turn was judged by; made for a new user, unless a legal hold made it meanwhile.
    fn judged(&self, on: &mut dyn Statements, turn: &NewTurn) -> Result<Known, StoreError> {
        let Some(user) = self.known_alone(on, turn.user_id)? else {
            if turn.user != UserRow::default() {
                return Err(StoreError::WentOn);
            }
            return self.new_user(on, turn.user_id, turn.now)?.ok_or(StoreError::WentOn);
        };
        let counts = "SELECT messages, sessions, seen_messages FROM users WHERE id = ?1";
        let row = on.first(counts, values![user.id])?.ok_or(StoreError::WentOn)?;
        let kept = (user.id, row.number(0)?, row.number(1)?, row.number(2)?);
        let UserRow { messages, sessions, seen_messages, .. } = turn.user;
        // Of one who was not known: in a row of which nothing is kept there is nothing that it was not judged by.
        let id = if turn.user == UserRow::default() { user.id } else { turn.user.id };
        let judged = (id, messages as i64, sessions as i64, seen_messages as i64);
        if kept == judged { Ok(user) } else { Err(StoreError::WentOn) }
    }

    /// The answer that a request of this user with this idempotency key was given.
    ///
    /// # Errors
    /// When the database fails.
    pub fn answered(&self, user_id: &str, request: &str) -> Result<Option<Answered>, StoreError> {
        let digest = self.keys.lookup(request);
        self.database.read(|on| {
            let Some(user) = self.known(on, user_id)? else { return Ok(None) };
            let query = "SELECT asked, answer FROM requests WHERE owner = ?1 AND digest = ?2";
            let Some(mut row) = on.first(query, values![user.id, digest])? else { return Ok(None) };
            let asked = row.bytes(0)?.try_into().map_err(|_| StoreError::Sealed)?;
            let answer = user.key.open(&row.bytes(1)?, &[&b"answer"[..], &digest].concat())?;
            Ok(Some(Answered { asked, answer }))
        })
    }

    /// Everything that was said, in the order in which it came; `None` of a user who is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn history(&self, user_id: &str) -> Result<Option<Vec<KeptSession>>, StoreError> {
        self.read(user_id, true, 0..i64::MAX)
    }

    /// The same without what was said: places, times and scores.
    ///
    /// # Errors
    /// When the database fails.
    pub fn scores(&self, user_id: &str) -> Result<Option<Vec<KeptSession>>, StoreError> {
        self.read(user_id, false, 0..i64::MAX)
    }

    /// The same of those messages alone, counted from 0 over all sessions in the order in which they came; of the other sessions there are
    /// the names.
    ///
    /// # Errors
    /// When the database fails.
    pub fn scores_of(&self, user_id: &str, numbers: Range<u64>) -> Result<Option<Vec<KeptSession>>, StoreError> {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        self.read(user_id, false, number(numbers.start)..number(numbers.end))
    }

    /// Rows are read while others wait, and opened while they do not.
    fn read(&self, user_id: &str, content: bool, numbers: Range<i64>) -> Result<Option<Vec<KeptSession>>, StoreError> {
        let query = format!(
            "SELECT number, session, message, role, time_ms, {}, score, digest FROM messages \
             WHERE owner = ?1 AND number >= ?2 AND number < ?3 ORDER BY number",
            if content { "content" } else { "NULL" }
        );
        let found = self.database.read(|on| {
            let Some(user) = self.known(on, user_id)? else { return Ok(None) };
            let rows = on.query(&query, values![user.id, numbers.start, numbers.end])?;
            let sessions = sessions(on, &user)?;
            Ok(Some((user.key, rows, sessions)))
        })?;
        let Some((key, rows, mut sessions)) = found else { return Ok(None) };
        for row in rows {
            let row = MessageRow::of(row)?;
            let session = usize::try_from(row.session).ok().and_then(|session| sessions.get_mut(session));
            session.ok_or(StoreError::Sealed)?.messages.push(row.opened(&key)?);
        }
        Ok(Some(sessions))
    }
}

/// A message as it lies there.
struct MessageRow {
    number: i64,
    session: i64,
    message: i64,
    role: String,
    time_ms: Option<i64>,
    content: Option<Vec<u8>>,
    score: Option<Vec<u8>>,
    digest: Option<Vec<u8>>,
}

impl MessageRow {
    fn of(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            number: row.number(0)?,
            session: row.number(1)?,
            message: row.number(2)?,
            role: row.text(3)?.to_owned(),
            time_ms: row.maybe_number(4)?,
            content: row.maybe_bytes(5)?,
            score: row.maybe_bytes(6)?,
            digest: row.maybe_bytes(7)?,
        })
    }

    /// What the sealed values of the row are of: the column, and everything that stands beside it readable.
    fn of_column(&self, column: &str) -> Vec<u8> {
        let mut of = of(column, self.number);
        of.extend([self.session, self.message, self.time_ms.unwrap_or(i64::MIN)].iter().flat_map(|n| n.to_le_bytes()));
        of.extend(self.role.as_bytes());
        of
    }

    fn opened(self, key: &DataKey) -> Result<KeptMessage, StoreError> {
        let content = self.content.as_ref().map(|sealed| text(key, sealed, &self.of_column("content"))).transpose()?;
        let score = self.score.as_ref().map(|sealed| key.open(sealed, &self.of_column("score"))).transpose()?;
        let score: Option<MessageScore> =
            score.map(|json| serde_json::from_slice(&json).map_err(|_| StoreError::Sealed)).transpose()?;
        let digest = self.digest.as_ref().map(|sealed| key.open(sealed, &self.of_column("digest"))).transpose()?;
        let digest = digest.map(|digest| digest.try_into().map_err(|_| StoreError::Sealed)).transpose()?;
        let role = serde_json::from_value(self.role.into()).map_err(|_| StoreError::Sealed)?;
        let at = MessageAt { session: self.session as usize, message: self.message as usize };
        Ok(KeptMessage { at, role, content, digest, time: time(self.time_ms), score })
    }
}

fn sessions(on: &mut dyn Statements, user: &Known) -> Result<Vec<KeptSession>, StoreError> {
    let rows =
        on.query("SELECT session, name, started_ms FROM sessions WHERE owner = ?1 ORDER BY session", values![user.id])?;
    let session = |mut row: Row| {
        let session_id = text(&user.key, &row.bytes(1)?, &of("session", row.number(0)?))?;
        Ok(KeptSession { session_id, started_at: time(row.maybe_number(2)?), messages: Vec::new() })
    };
    rows.into_iter().map(session).collect()
}

fn keep_message(
    on: &mut dyn Statements,
    user: &Known,
    (number, now): (i64, Timestamp),
    message: &KeptMessage,
) -> Result<(), StoreError> {
    let mut row = MessageRow {
        number,
        session: message.at.session as i64,
        message: message.at.message as i64,
        role: role_name(message.role)?,
        time_ms: millis(message.time),
        content: None,
        score: None,
        digest: None,
    };
    let content = message.content.as_deref();
    row.content = content.map(|text| user.key.seal(text.as_bytes(), &row.of_column("content"))).transpose()?;
    row.digest = message.digest.map(|digest| user.key.seal(&digest, &row.of_column("digest"))).transpose()?;
    if let Some(score) = message.score {
        let json = serde_json::to_vec(&score).map_err(|_| StoreError::Sealed)?;
        row.score = Some(user.key.seal(&json, &row.of_column("score"))?);
    }
    on.execute(
        "INSERT INTO messages (owner, number, session, message, role, time_ms, content, score, digest, kept_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        values![
            user.id,
            row.number,
            row.session,
            row.message,
            row.role.as_str(),
            row.time_ms,
            row.content,
            row.score,
            row.digest,
            now.as_millisecond()
        ],
    )?;
    Ok(())
}

fn role_name(role: Role) -> Result<String, StoreError> {
    match serde_json::to_value(role) {
        Ok(serde_json::Value::String(name)) => Ok(name),
        _ => Err(StoreError::Sealed),
    }
}

/// What a sealed value is of: its column and number.
pub(super) fn of(column: &str, number: i64) -> Vec<u8> {
    [column.as_bytes(), &number.to_le_bytes()].concat()
}

pub(super) fn text(key: &DataKey, sealed: &[u8], of: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(key.open(sealed, of)?).map_err(|_| StoreError::Sealed)
}
