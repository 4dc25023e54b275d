//! A place for a store, and what is kept there.

#![allow(dead_code, reason = "every test file uses a part")]

use jiff::Timestamp;
use throughline::arc::MessageAt;
use throughline::scoring::MessageScore;
#[cfg(all(unix, feature = "postgres"))]
use throughline::store::PostgresSettings;
use throughline::store::{KeptMessage, MasterKey, NewAlarm, NewTurn, Store, StoreError, text_digest};
use throughline::transcript::Role;
use throughline::verdict::Level;

#[cfg(all(unix, feature = "postgres"))]
use crate::postgres_support::Postgres;

/// Where a store is opened, and opened again.
pub enum Place {
    Folder(tempfile::TempDir),
    #[cfg(all(unix, feature = "postgres"))]
    Server(Postgres),
}

impl Place {
    pub fn open(&self, key: &MasterKey) -> Result<Store, StoreError> {
        match self {
            Self::Folder(folder) => Store::open(folder.path(), key),
            #[cfg(all(unix, feature = "postgres"))]
            Self::Server(server) => Store::connect(&PostgresSettings::new(server.url()), key),
        }
    }
}

/// Runs a test on SQLite, and on PostgreSQL where there is one.
pub fn each(test: impl Fn(&Place)) {
    test(&Place::Folder(tempfile::tempdir().unwrap()));
    #[cfg(all(unix, feature = "postgres"))]
    if let Some(server) = Postgres::start(&[]) {
        test(&Place::Server(server));
    }
}

pub fn key(number: u8) -> MasterKey {
    MasterKey::from_hex(&format!("{number:02x}").repeat(32)).unwrap()
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_750_000_000).unwrap()
}

pub fn message(session: usize, message: usize, text: &str) -> KeptMessage {
    let role = if message.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let score = MessageScore { harassment: [0.7, 0.1, 0.15, 0.05], ..MessageScore::NOTHING };
    let at = MessageAt { session, message };
    let (content, digest) = (Some(text.into()), Some(text_digest(text)));
    KeptMessage { at, role, content, digest, time: Some(now()), score: Some(score) }
}

pub fn turn<'a>(store: &Store, user_id: &'a str, messages: &'a [KeptMessage]) -> NewTurn<'a> {
    let user = store.user(user_id).unwrap();
    let new_session = messages.first().filter(|first| first.at.message == 0).map(|_| ("the session's id", Some(now())));
    NewTurn { user_id, user, new_session, messages, alarm: None, request: None, now: now() }
}

/// Keeps messages of such a text until that cannot be done: how many were kept, and why no more.
pub fn fill(store: &Store, text: &str) -> (usize, StoreError) {
    let mut kept = 0;
    loop {
        let messages = [message(0, kept, text)];
        match store.keep(&turn(store, "ada", &messages)) {
            Ok(_) => kept += 1,
            Err(error) => return (kept, error),
        }
    }
}

pub fn alarm(level: Level) -> Option<NewAlarm<'static>> {
    Some(NewAlarm { level, arcs: [level, Level::Watch], at: MessageAt { session: 0, message: 0 }, verdict: b"{}" })
}
