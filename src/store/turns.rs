//! Turns: kept whole, read again in order.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::seal::DataKey;
use super::{Answered, KeptMessage, KeptSession, NewAlarm, NewTurn, Request, Store, StoreError, UserRow, millis, time};
use crate::arc::MessageAt;
use crate::scoring::MessageScore;
use crate::transcript::Role;

/// How long a request's answer is given again: a week.
const REQUESTS_KEPT_MS: i64 = 7 * 86_400_000;

impl Store {
    /// Keeps a turn: its messages, the alarm it raised, and the answer to its request. The user's row, and the alarm's number if there is one.
    ///
    /// # Errors
    /// [`StoreError::WentOn`] where other messages came meanwhile; when the database fails. Then nothing of the turn is kept.
    pub fn keep(&self, turn: &NewTurn) -> Result<(i64, Option<i64>), StoreError> {
        self.cut();
        self.write(|transaction| {
            let (user, key) = self.user_row(transaction, turn)?;
            let (messages, mut sessions) = (turn.user.messages as i64, turn.user.sessions as i64);
            if let Some((session_id, started_at)) = turn.new_session {
                let name = key.seal(session_id.as_bytes(), &of("session", sessions))?;
                transaction.execute(
                    "INSERT INTO sessions (user, session, name, started_ms) VALUES (?1, ?2, ?3, ?4)",
                    params![user, sessions, name, millis(started_at)],
                )?;
                sessions += 1;
            }
            for (number, message) in (messages..).zip(turn.messages) {
                keep_message(transaction, &key, (user, number), message)?;
            }
            transaction.execute(
                "UPDATE users SET messages = ?2, sessions = ?3 WHERE id = ?1",
                params![user, messages + turn.messages.len() as i64, sessions],
            )?;
            let alarm = turn.alarm.map(|alarm| keep_alarm(transaction, &key, user, (&alarm, turn))).transpose()?;
            if let Some(request) = &turn.request {
                self.keep_request(transaction, &key, user, (request, alarm, turn.now))?;
            }
            Ok((user, alarm))
        })
    }

    fn keep_request(
        &self,
        transaction: &Transaction,
        key: &DataKey,
        user: i64,
        (request, alarm, now): (&Request, Option<i64>, Timestamp),
    ) -> Result<(), StoreError> {
        let digest = self.keys.lookup(request.key);
        let answer = key.seal(&(request.answer)(alarm), &[&b"answer"[..], &digest].concat())?;
        transaction.execute(
            "DELETE FROM requests WHERE user = ?1 AND created_ms < ?2",
            params![user, now.as_millisecond() - REQUESTS_KEPT_MS],
        )?;
        transaction.execute(
            "INSERT INTO requests (user, digest, asked, answer, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![user, digest, request.asked, answer, now.as_millisecond()],
        )?;
        Ok(())
    }

    /// The user's row, if it is the one that the turn was judged by; made for a new user.
    fn user_row(&self, transaction: &Transaction, turn: &NewTurn) -> Result<(i64, DataKey), StoreError> {
        if let Some((user, key)) = self.known(transaction, turn.user_id)? {
            let counts = "SELECT messages, sessions FROM users WHERE id = ?1";
            let kept: (i64, i64) = transaction.query_row(counts, [user], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let judged = (turn.user.messages as i64, turn.user.sessions as i64);
            return if user == turn.user.id && kept == judged { Ok((user, key)) } else { Err(StoreError::WentOn) };
        }
        if turn.user != UserRow::default() {
            return Err(StoreError::WentOn);
        }
        let digest = self.keys.lookup(turn.user_id);
        let (key, sealed) = self.keys.new_user(&digest)?;
        let name = key.seal(turn.user_id.as_bytes(), b"user")?;
        transaction.execute(
            "INSERT INTO users (digest, name, data_key, created_ms) VALUES (?1, ?2, ?3, ?4)",
            params![digest, name, sealed, turn.now.as_millisecond()],
        )?;
        Ok((transaction.last_insert_rowid(), key))
    }

    /// The answer that a request of this user with this idempotency key was given.
    ///
    /// # Errors
    /// When the database fails.
    pub fn answered(&self, user_id: &str, request: &str) -> Result<Option<Answered>, StoreError> {
        let connection = self.lock();
        let Some((user, key)) = self.known(&connection, user_id)? else { return Ok(None) };
        let digest = self.keys.lookup(request);
        let row: Option<([u8; 32], Vec<u8>)> = connection
            .query_row(
                "SELECT asked, answer FROM requests WHERE user = ?1 AND digest = ?2",
                params![user, digest],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((asked, sealed)) = row else { return Ok(None) };
        let answer = key.open(&sealed, &[&b"answer"[..], &digest].concat())?;
        Ok(Some(Answered { asked, answer }))
    }

    /// Everything that was said, in the order in which it came; `None` of a user who is not known.
    ///
    /// # Errors
    /// When the database fails.
    pub fn history(&self, user_id: &str) -> Result<Option<Vec<KeptSession>>, StoreError> {
        self.read(user_id, true)
    }

    /// The same without what was said: places, times and scores.
    ///
    /// # Errors
    /// When the database fails.
    pub fn scores(&self, user_id: &str) -> Result<Option<Vec<KeptSession>>, StoreError> {
        self.read(user_id, false)
    }

    /// Rows are read while others wait, and opened while they do not.
    fn read(&self, user_id: &str, content: bool) -> Result<Option<Vec<KeptSession>>, StoreError> {
        let (key, rows, mut sessions) = {
            let connection = self.lock();
            let Some((user, key)) = self.known(&connection, user_id)? else { return Ok(None) };
            let query = format!(
                "SELECT number, session, message, role, time_ms, {}, score FROM messages WHERE user = ?1 ORDER BY number",
                if content { "content" } else { "NULL" }
            );
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map([user], MessageRow::of)?.collect::<Result<Vec<_>, _>>()?;
            let sessions = sessions(&connection, user, &key)?;
            (key, rows, sessions)
        };
        for row in rows {
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
}

impl MessageRow {
    fn of(row: &rusqlite::Row) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get(0)?,
            session: row.get(1)?,
            message: row.get(2)?,
            role: row.get(3)?,
            time_ms: row.get(4)?,
            content: row.get(5)?,
            score: row.get(6)?,
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
        let role = serde_json::from_value(self.role.into()).map_err(|_| StoreError::Sealed)?;
        let at = MessageAt { session: self.session as usize, message: self.message as usize };
        Ok(KeptMessage { at, role, content, time: time(self.time_ms), score })
    }
}

fn sessions(connection: &Connection, user: i64, key: &DataKey) -> Result<Vec<KeptSession>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT session, name, started_ms FROM sessions WHERE user = ?1 ORDER BY session")?;
    let mut rows = statement.query([user])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let session_id = text(key, &row.get::<_, Vec<u8>>(1)?, &of("session", row.get(0)?))?;
        sessions.push(KeptSession { session_id, started_at: time(row.get(2)?), messages: Vec::new() });
    }
    Ok(sessions)
}

fn keep_message(
    transaction: &Transaction,
    key: &DataKey,
    (user, number): (i64, i64),
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
    };
    let content = message.content.as_deref();
    row.content = content.map(|text| key.seal(text.as_bytes(), &row.of_column("content"))).transpose()?;
    if let Some(score) = message.score {
        let json = serde_json::to_vec(&score).map_err(|_| StoreError::Sealed)?;
        row.score = Some(key.seal(&json, &row.of_column("score"))?);
    }
    transaction
        .prepare_cached(
            "INSERT INTO messages (user, number, session, message, role, time_ms, content, score) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![user, row.number, row.session, row.message, row.role, row.time_ms, row.content, row.score])?;
    Ok(())
}

fn keep_alarm(
    transaction: &Transaction,
    key: &DataKey,
    user: i64,
    (alarm, turn): (&NewAlarm, &NewTurn),
) -> Result<i64, StoreError> {
    transaction.execute(
        "INSERT INTO alarms (user, session, message, level, verdict, raised_ms) VALUES (?1, ?2, ?3, ?4, x'', ?5)",
        params![
            user,
            alarm.at.session as i64,
            alarm.at.message as i64,
            alarm.level.as_str(),
            turn.now.as_millisecond()
        ],
    )?;
    let id = transaction.last_insert_rowid();
    let verdict = key.seal(alarm.verdict, &of("verdict", id))?;
    transaction.execute("UPDATE alarms SET verdict = ?2 WHERE id = ?1", params![id, verdict])?;
    let now = [alarm.arcs[0], alarm.arcs[1], alarm.level];
    let highest = |kind: usize| turn.user.alarmed[kind].map_or(now[kind], |before| before.max(now[kind])).as_str();
    transaction.execute(
        "UPDATE users SET harassment_alarm = ?2, delusion_alarm = ?3, alarm = ?4 WHERE id = ?1",
        params![user, highest(0), highest(1), highest(2)],
    )?;
    Ok(id)
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
