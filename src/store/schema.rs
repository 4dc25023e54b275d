//! The tables, and how older ones become the present ones.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Each brings the database from the form of its place to the next; none is ever changed.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        digest BLOB NOT NULL UNIQUE,       -- HMAC of the id
        name BLOB NOT NULL,                -- the id, sealed
        data_key BLOB NOT NULL,            -- sealed under the operator's
        messages INTEGER NOT NULL DEFAULT 0,
        sessions INTEGER NOT NULL DEFAULT 0,
        harassment_alarm TEXT,             -- the highest level of any alarm of that arc
        delusion_alarm TEXT,
        alarm TEXT,                        -- the highest level of any alarm
        seen_messages INTEGER NOT NULL DEFAULT 0,  -- messages kept when a person last acknowledged alarms
        held INTEGER NOT NULL DEFAULT 0,   -- legal hold
        created_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE sessions (
        user INTEGER NOT NULL REFERENCES users (id),
        session INTEGER NOT NULL,          -- from 0, in the order of coming
        name BLOB NOT NULL,                -- its id, sealed
        started_ms INTEGER,
        PRIMARY KEY (user, session)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE messages (
        user INTEGER NOT NULL REFERENCES users (id),
        number INTEGER NOT NULL,           -- from 0, over all sessions
        session INTEGER NOT NULL,
        message INTEGER NOT NULL,          -- from 0, in the session
        role TEXT NOT NULL,
        time_ms INTEGER,
        content BLOB,                      -- sealed; null where content is not kept
        score BLOB,                        -- sealed; null of system and tool messages
        PRIMARY KEY (user, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE requests (
        user INTEGER NOT NULL REFERENCES users (id),
        digest BLOB NOT NULL,              -- HMAC of the idempotency key
        asked BLOB NOT NULL,               -- HMAC of the request
        answer BLOB NOT NULL,              -- sealed
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (user, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE alarms (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        user INTEGER NOT NULL REFERENCES users (id),
        session INTEGER NOT NULL,
        message INTEGER NOT NULL,
        level TEXT NOT NULL,
        verdict BLOB NOT NULL,             -- sealed
        raised_ms INTEGER NOT NULL,
        acknowledged_ms INTEGER,
        acknowledged_by BLOB,              -- sealed
        note BLOB                          -- sealed
    ) STRICT;
    CREATE INDEX alarms_of_user ON alarms (user);
    CREATE INDEX alarms_open ON alarms (id) WHERE acknowledged_ms IS NULL;
"];

/// What every connection is set to.
pub(super) fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF; \
         PRAGMA cell_size_check = ON;",
    )
}

/// Brings the database to the present form; all of it or nothing.
pub(super) fn migrate(connection: &mut Connection, file: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len() as i64;
    if found > known || found < 0 {
        return Err(StoreError::Newer { file: file.to_owned(), found, known });
    }
    for migration in &MIGRATIONS[found as usize..] {
        transaction.execute_batch(migration)?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {known}"))?;
    transaction.commit()?;
    Ok(())
}
