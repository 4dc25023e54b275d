//! The tables, and how older ones become the present ones. Statements read both databases' tables alike: they have the same names and columns.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
#[cfg(feature = "postgres")]
use super::database::{Statements, values};

/// Each brings an SQLite database from the form of its place to the next; none is ever changed.
const SQLITE: [&str; 2] = ["
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
", "
    ALTER TABLE sessions RENAME COLUMN user TO owner;
    ALTER TABLE messages RENAME COLUMN user TO owner;
    ALTER TABLE requests RENAME COLUMN user TO owner;
    ALTER TABLE alarms RENAME COLUMN user TO owner;
    ALTER TABLE messages ADD COLUMN kept_ms INTEGER NOT NULL DEFAULT 0;  -- when it came, by this machine's clock
    ALTER TABLE users ADD COLUMN last_ms INTEGER NOT NULL DEFAULT 0;     -- when the last turn came
    ALTER TABLE users ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;     -- so many messages have lost their content to age
    UPDATE messages SET kept_ms = (SELECT MAX(created_ms, COALESCE(time_ms, 0)) FROM users WHERE id = owner);
    UPDATE users SET last_ms = COALESCE((SELECT MAX(kept_ms) FROM messages WHERE owner = users.id), created_ms);
    CREATE INDEX messages_aging ON messages (kept_ms) WHERE content IS NOT NULL;
    CREATE INDEX users_aging ON users (last_ms);
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
pub(super) fn migrate_sqlite(connection: &mut Connection, file: &Path) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = SQLITE.len() as i64;
    if found > known || found < 0 {
        return Err(StoreError::Newer { place: file.display().to_string(), found, known });
    }
    for migration in &SQLITE[found as usize..] {
        transaction.execute_batch(migration)?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {known}"))?;
    transaction.commit()?;
    Ok(())
}

/// The schema in a PostgreSQL database that has everything.
#[cfg(feature = "postgres")]
pub(super) const SCHEMA: &str = "throughline";

/// Each brings a PostgreSQL database from the form of its place to the next; none is ever changed.
#[cfg(feature = "postgres")]
const POSTGRES: [&[&str]; 1] = [&[
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BYTEA NOT NULL)",
    "CREATE TABLE users (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        digest BYTEA NOT NULL UNIQUE,
        name BYTEA NOT NULL,
        data_key BYTEA NOT NULL,
        messages BIGINT NOT NULL DEFAULT 0,
        sessions BIGINT NOT NULL DEFAULT 0,
        harassment_alarm TEXT,
        delusion_alarm TEXT,
        alarm TEXT,
        seen_messages BIGINT NOT NULL DEFAULT 0,
        held BIGINT NOT NULL DEFAULT 0,
        created_ms BIGINT NOT NULL,
        last_ms BIGINT NOT NULL,
        dropped BIGINT NOT NULL DEFAULT 0
    )",
    "CREATE TABLE sessions (
        owner BIGINT NOT NULL REFERENCES users (id),
        session BIGINT NOT NULL,
        name BYTEA NOT NULL,
        started_ms BIGINT,
        PRIMARY KEY (owner, session)
    )",
    "CREATE TABLE messages (
        owner BIGINT NOT NULL REFERENCES users (id),
        number BIGINT NOT NULL,
        session BIGINT NOT NULL,
        message BIGINT NOT NULL,
        role TEXT NOT NULL,
        time_ms BIGINT,
        content BYTEA,
        score BYTEA,
        kept_ms BIGINT NOT NULL,
        PRIMARY KEY (owner, number)
    )",
    "CREATE TABLE requests (
        owner BIGINT NOT NULL REFERENCES users (id),
        digest BYTEA NOT NULL,
        asked BYTEA NOT NULL,
        answer BYTEA NOT NULL,
        created_ms BIGINT NOT NULL,
        PRIMARY KEY (owner, digest)
    )",
    "CREATE TABLE alarms (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        owner BIGINT NOT NULL REFERENCES users (id),
        session BIGINT NOT NULL,
        message BIGINT NOT NULL,
        level TEXT NOT NULL,
        verdict BYTEA NOT NULL,
        raised_ms BIGINT NOT NULL,
        acknowledged_ms BIGINT,
        acknowledged_by BYTEA,
        note BYTEA
    )",
    "CREATE INDEX alarms_of_user ON alarms (owner)",
    "CREATE INDEX alarms_open ON alarms (id) WHERE acknowledged_ms IS NULL",
    "CREATE INDEX messages_aging ON messages (kept_ms) WHERE content IS NOT NULL",
    "CREATE INDEX users_aging ON users (last_ms)",
]];

/// Brings the database to the present form; all of it or nothing. Servers that start together do it one after another.
#[cfg(feature = "postgres")]
pub(super) fn migrate_postgres(on: &mut dyn Statements, place: &str) -> Result<(), StoreError> {
    let there = |on: &mut dyn Statements, what: &str| -> Result<bool, StoreError> {
        Ok(on.first(&format!("SELECT {what} WHERE {what} IS NOT NULL"), &[])?.is_some())
    };
    on.query("SELECT CAST(pg_advisory_xact_lock(?1) AS TEXT)", values![i64::from_be_bytes(*b"throughl")])?;
    // Whoever may not make one has it made by somebody else.
    if !there(on, "CAST(to_regnamespace('throughline') AS TEXT)")? {
        on.execute(&format!("CREATE SCHEMA {SCHEMA}"), &[])?;
    }
    if !there(on, "CAST(to_regclass('throughline.form') AS TEXT)")? {
        on.execute("CREATE TABLE form (number BIGINT NOT NULL)", &[])?;
        on.execute("INSERT INTO form (number) VALUES (0)", &[])?;
    }
    let found = on.first("SELECT number FROM form", &[])?.ok_or(StoreError::Sealed)?.number(0)?;
    let known = POSTGRES.len() as i64;
    if found > known || found < 0 {
        return Err(StoreError::Newer { place: place.to_owned(), found, known });
    }
    for statement in POSTGRES[found as usize..].iter().copied().flatten() {
        on.execute(statement, &[])?;
    }
    if found < known {
        on.execute("UPDATE form SET number = ?1", values![known])?;
    }
    Ok(())
}
