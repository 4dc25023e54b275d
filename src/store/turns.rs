//! Turns: kept whole, read again in order.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::seal::DataKey;
use super::{Answered, KeptMessage, KeptSession, NewAlarm, NewTurn, Request, Store, StoreError, millis, time};
use crate::arc::MessageAt;
use crate::scoring::MessageScore;
use crate::transcript::Role;

impl Store {
    /// Keeps a turn: its messages, the alarm it raised, and the answer to its request. The alarm's number, if there is one.
    ///
    /// # Errors
    /// [`StoreError::WentOn`] where other messages came meanwhile; when the database fails. Then nothing of the turn is kept.
    pub fn keep(&self, turn: &NewTurn) -> Result<Option<i64>, StoreError> {
        self.write(|transaction| {
            let (user, key) = self.user_row(transaction, turn)?;
            let (messages, mut sessions): (i64, i64) =
                transaction.query_row("SELECT messages, sessions FROM users WHERE id = ?1", [user], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            if messages as u64 != turn.after_messages {
                return Err(StoreError::WentOn);
            }
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
            if let Some(Request { key: name, asked, answer }) = turn.request {
                let digest = self.keys.lookup(name);
                let answer = key.seal(&answer(alarm), &[&b"answer"[..], &digest].concat())?;
                transaction.execute(
                    "INSERT INTO requests (user, digest, asked, answer, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![user, digest, asked, answer, turn.now.as_millisecond()],
                )?;
            }
            Ok(alarm)
        })
    }

    /// The user's row, made where there is none.
    fn user_row(&self, transaction: &Transaction, turn: &NewTurn) -> Result<(i64, DataKey), StoreError> {
        if let Some(known) = self.known(transaction, turn.user_id)? {
            return Ok(known);
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
        let connection = self.lock();
        let Some((user, key)) = self.known(&connection, user_id)? else { return Ok(None) };
        let mut sessions = sessions(&connection, user, &key)?;
        let mut statement = connection.prepare_cached(
            "SELECT number, session, message, role, time_ms, content, score FROM messages WHERE user = ?1 ORDER BY number",
        )?;
        let mut rows = statement.query([user])?;
        while let Some(row) = rows.next()? {
            let (number, session): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (content, score): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(5)?, row.get(6)?);
            let content = content.map(|sealed| text(&key, &sealed, &of("content", number))).transpose()?;
            let score = score.map(|sealed| key.open(&sealed, &of("score", number))).transpose()?;
            let score: Option<MessageScore> =
                score.map(|json| serde_json::from_slice(&json).map_err(|_| StoreError::Sealed)).transpose()?;
            let role = serde_json::from_value(row.get::<_, String>(3)?.into()).map_err(|_| StoreError::Sealed)?;
            let at = MessageAt { session: session as usize, message: row.get::<_, i64>(2)? as usize };
            let kept = sessions.get_mut(session as usize).ok_or(StoreError::Sealed)?;
            kept.messages.push(KeptMessage { at, role, content, time: time(row.get(4)?), score });
        }
        Ok(Some(sessions))
    }

    /// The id of a user's last session, its place, and how many messages it has.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_session(&self, user_id: &str) -> Result<Option<(String, MessageAt)>, StoreError> {
        let connection = self.lock();
        let Some((user, key)) = self.known(&connection, user_id)? else { return Ok(None) };
        let row: Option<(i64, Vec<u8>)> = connection
            .query_row(
                "SELECT session, name FROM sessions WHERE user = ?1 ORDER BY session DESC LIMIT 1",
                [user],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((session, name)) = row else { return Ok(None) };
        let messages: i64 = connection.query_row(
            "SELECT COUNT(*) FROM messages WHERE user = ?1 AND session = ?2",
            [user, session],
            |row| row.get(0),
        )?;
        let at = MessageAt { session: session as usize, message: messages as usize };
        Ok(Some((text(&key, &name, &of("session", session))?, at)))
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
    let content = message.content.as_deref().map(|text| key.seal(text.as_bytes(), &of("content", number)));
    let score = message.score.map(|score| {
        let json = serde_json::to_vec(&score).map_err(|_| StoreError::Sealed)?;
        key.seal(&json, &of("score", number))
    });
    transaction
        .prepare_cached(
            "INSERT INTO messages (user, number, session, message, role, time_ms, content, score) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            user,
            number,
            message.at.session as i64,
            message.at.message as i64,
            role_name(message.role)?,
            millis(message.time),
            content.transpose()?,
            score.transpose()?
        ])?;
    Ok(())
}

fn keep_alarm(
    transaction: &Transaction,
    key: &DataKey,
    user: i64,
    (alarm, turn): (&NewAlarm, &NewTurn),
) -> Result<i64, StoreError> {
    let verdict = key.seal(alarm.verdict, b"verdict")?;
    transaction.execute(
        "INSERT INTO alarms (user, session, message, level, verdict, raised_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            user,
            alarm.at.session as i64,
            alarm.at.message as i64,
            alarm.level.as_str(),
            verdict,
            turn.now.as_millisecond()
        ],
    )?;
    let number = transaction.last_insert_rowid();
    transaction.execute("UPDATE users SET alarm_level = ?2 WHERE id = ?1", params![user, alarm.level.as_str()])?;
    Ok(number)
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
