//! The tables, and how older ones become the present ones. Statements read both databases' tables alike: they have the same names and columns.

use std::fmt::Display;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;
#[cfg(feature = "postgres")]
use super::database::{Statements, values};

/// The form of a database's tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Form {
    /// That it had when it was opened; 0 without tables.
    pub found: i64,
    /// That this build reads.
    pub known: i64,
}

impl Form {
    fn of(found: i64, known: usize, place: impl Display) -> Result<Self, StoreError> {
        let known = known as i64;
        if found > known || found < 0 {
            return Err(StoreError::Newer { place: place.to_string(), found, known });
        }
        Ok(Self { found, known })
    }

    /// Whether it must be brought forward before anything else.
    pub fn is_older(self) -> bool {
        self.found < self.known
    }
}

/// Each brings an SQLite database from the form of its place to the next; none is ever changed.
const SQLITE: [&str; 3] = ["
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
", "
    ALTER TABLE messages ADD COLUMN digest BLOB;  -- of what was said, sealed; null of messages from before
"];

/// What a database is set to, and every connection to it.
pub(super) fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection_settings(connection)
}

/// What every connection is set to, of which nothing stays in the file.
pub(super) fn connection_settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA trusted_schema = OFF; \
         PRAGMA cell_size_check = ON;",
    )
}

pub(super) fn form_of_sqlite(connection: &Connection, file: &Path) -> Result<Form, StoreError> {
    let found = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Form::of(found, SQLITE.len(), file.display())
}

/// Brings the database to the present form, all of it or nothing; the form that it had.
pub(super) fn migrate_sqlite(connection: &mut Connection, file: &Path) -> Result<Form, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let form = form_of_sqlite(&transaction, file)?;
    for migration in &SQLITE[form.found as usize..] {
        transaction.execute_batch(migration)?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {}", form.known))?;
    transaction.commit()?;
    Ok(form)
}

/// The schema in a PostgreSQL database that has everything.
#[cfg(feature = "postgres")]
pub(super) const SCHEMA: &str = "throughline";

/// Each brings a PostgreSQL database from the form of its place to the next; none is ever changed.
#[cfg(feature = "postgres")]
const POSTGRES: [&[&str]; 2] = [
    &[
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
    ],
    &["ALTER TABLE messages ADD COLUMN digest BYTEA"],
];

/// The table of the form, if it is there.
#[cfg(feature = "postgres")]
const FORM_TABLE: &str = "CAST(to_regclass('throughline.form') AS TEXT)";

#[cfg(feature = "postgres")]
fn is_there(on: &mut dyn Statements, what: &str) -> Result<bool, StoreError> {
    Ok(on.first(&format!("SELECT {what} WHERE {what} IS NOT NULL"), &[])?.is_some())
}

#[cfg(feature = "postgres")]
pub(super) fn form_of_postgres(on: &mut dyn Statements, place: &str) -> Result<Form, StoreError> {
    let found = match is_there(on, FORM_TABLE)? {
        true => on.first("SELECT number FROM form", &[])?.ok_or(StoreError::Sealed)?.number(0)?,
        false => 0,
    };
    Form::of(found, POSTGRES.len(), place)
}

/// Brings the database to the present form, all of it or nothing; the form that it had. Servers that start together do it one after
/// another.
#[cfg(feature = "postgres")]
pub(super) fn migrate_postgres(on: &mut dyn Statements, place: &str) -> Result<Form, StoreError> {
    on.query("SELECT CAST(pg_advisory_xact_lock(?1) AS TEXT)", values![i64::from_be_bytes(*b"throughl")])?;
    // Whoever may not make one has it made by somebody else.
    if !is_there(on, "CAST(to_regnamespace('throughline') AS TEXT)")? {
        on.execute(&format!("CREATE SCHEMA {SCHEMA}"), &[])?;
    }
    if !is_there(on, FORM_TABLE)? {
        on.execute("CREATE TABLE form (number BIGINT NOT NULL)", &[])?;
        on.execute("INSERT INTO form (number) VALUES (0)", &[])?;
    }
    let form = form_of_postgres(on, place)?;
    for statement in POSTGRES[form.found as usize..].iter().copied().flatten() {
        on.execute(statement, &[])?;
    }
    if form.is_older() {
        on.execute("UPDATE form SET number = ?1", values![form.known])?;
    }
    Ok(form)
}
