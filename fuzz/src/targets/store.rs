//! What is kept of users: sealed values that are read again, values that were changed by hand, a damaged database.

use std::fs;
use std::sync::OnceLock;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params};
use tempfile::TempDir;
use throughline::arc::MessageAt;
use throughline::scoring::MessageScore;
use throughline::store::{KeptMessage, MasterKey, NewAlarm, NewTurn, Request, Store, text_digest};
use throughline::transcript::Role;
use throughline::verdict::Level;

const USER: &str = "ada";
const KEY: &str = "key-1";

/// What lies there by column; the kind says which values it takes.
const COLUMNS: [(&str, &str, Kind); 17] = [
    ("users", "name", Kind::Sealed),
    ("users", "data_key", Kind::Sealed),
    ("sessions", "name", Kind::Sealed),
    ("messages", "content", Kind::Sealed),
    ("messages", "score", Kind::Sealed),
    ("requests", "answer", Kind::Sealed),
    ("alarms", "verdict", Kind::Sealed),
    ("alarms", "acknowledged_by", Kind::Sealed),
    ("alarms", "note", Kind::Sealed),
    ("alarms", "level", Kind::Text),
    ("messages", "role", Kind::Text),
    ("users", "alarm", Kind::Text),
    ("messages", "time_ms", Kind::Number),
    ("messages", "session", Kind::Number),
    ("sessions", "started_ms", Kind::Number),
    ("users", "messages", Kind::Number),
    ("messages", "digest", Kind::Sealed),
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Sealed,
    Text,
    Number,
}

struct Open {
    folder: TempDir,
    store: Store,
}

impl Open {
    fn new(folder: TempDir) -> Option<Self> {
        let key = MasterKey::from_hex(&"5a".repeat(32)).expect("a key");
        let store = Store::open(folder.path(), &key).ok()?;
        Some(Self { folder, store })
    }

    /// One a process: every input leaves it empty.
    fn shared() -> &'static Self {
        static OPEN: OnceLock<Open> = OnceLock::new();
        OPEN.get_or_init(|| Self::new(tempfile::tempdir().expect("a folder")).expect("a new store"))
    }
}

/// The last byte says what is done with the others.
pub fn sealed(data: &[u8]) {
    let Some((&how, bytes)) = data.split_last() else { return };
    match how % 3 {
        0 => kept(bytes),
        1 => changed(bytes, COLUMNS[usize::from(how / 3) % COLUMNS.len()]),
        _ => damaged(bytes),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_750_000_000).expect("a time")
}

fn message(content: &str, score: MessageScore) -> KeptMessage {
    let at = MessageAt { session: 0, message: 0 };
    let (content, digest) = (Some(content.to_owned()), Some(text_digest(content)));
    KeptMessage { at, role: Role::User, content, digest, time: Some(now()), score: Some(score) }
}

/// Keeps one message of a user with an alarm and an answer, all of these words.
fn keep(store: &Store, user_id: &str, messages: &[KeptMessage], words: &[u8]) {
    let at = messages[0].at;
    let alarm = NewAlarm { level: Level::Review, arcs: [Level::Review, Level::None], at, verdict: words };
    let answer = |_: Option<i64>| words.to_vec();
    let turn = NewTurn {
        user_id,
        user: store.user(user_id).expect("a row"),
        new_session: Some((user_id, Some(now()))),
        messages,
        alarm: Some(alarm),
        request: Some(Request { key: KEY, asked: [7; 32], answer: &answer }),
        now: now(),
    };
    store.keep(&turn).expect("a turn that is kept");
}

/// What is kept is read again to the last bit, and gone when it is erased.
fn kept(bytes: &[u8]) {
    let store = &Open::shared().store;
    let text = String::from_utf8_lossy(bytes);
    let (user_id, said) = text.split_once('\0').unwrap_or((USER, &text));
    let mut numbers = bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let mut next = || numbers.next().filter(|number| number.is_finite()).unwrap_or(0.25);
    let score = MessageScore { harassment: std::array::from_fn(|_| next()), imminent: next(), ..MessageScore::NOTHING };
    let messages = [message(said, score)];
    keep(store, user_id, &messages, bytes);
    assert_eq!(store.acknowledge(user_id, said, user_id, now()).expect("acknowledged"), Some(1));
    let history = store.history(user_id).expect("a history").expect("of one who is known");
    assert_eq!((history[0].session_id.as_str(), &history[0].messages[..]), (user_id, &messages[..]));
    let alarms = store.alarms_of(user_id).expect("alarms");
    let seen = alarms.alarms[0].acknowledged.as_ref().expect("acknowledged");
    assert_eq!((seen.by.as_str(), seen.note.as_str(), &alarms.alarms[0].verdict[..]), (said, user_id, bytes));
    assert_eq!(store.answered(user_id, KEY).expect("an answer").expect("of one who asked").answer, bytes);
    assert_eq!(store.check_whole().expect("a check"), None);
    assert!(store.erase(user_id).expect("erased"));
    assert_eq!(store.counts().expect("counts"), [0, 0, 0]);
}

/// A value that was changed by hand: whatever was sealed does not open, the rest is read or told, and the user can be erased.
fn changed(bytes: &[u8], (table, column, kind): (&str, &str, Kind)) {
    let Open { folder, store } = Open::shared();
    keep(store, USER, &[message("hello", MessageScore::NOTHING)], b"{}");
    store.acknowledge(USER, "by", "note", now()).expect("acknowledged");
    let connection = Connection::open(folder.path().join("throughline.sqlite")).expect("a second connection");
    let value = match kind {
        Kind::Sealed => Value::Blob(bytes.to_vec()),
        Kind::Text => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        Kind::Number => {
            let mut number = [0; 8];
            number.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            Value::Integer(i64::from_le_bytes(number))
        }
    };
    connection.execute(&format!("UPDATE {table} SET {column} = ?1"), params![value]).expect("a changed value");
    let read = [
        store.history(USER).is_ok(),
        store.answered(USER, KEY).is_ok(),
        store.alarms_of(USER).is_ok_and(|alarms| alarms.unreadable == 0),
    ];
    assert!(kind != Kind::Sealed || read.contains(&false), "{column} opens");
    let whole = store.check_whole().expect("a check").is_none();
    // An answer is opened when it is asked for again, and only then.
    assert!(kind != Kind::Sealed || !whole || column == "answer", "{column} passes for whole");
    read_all(store);
    assert!(store.erase(USER).expect("erased"));
}

/// Bytes of the database's file that were changed: place, place, value.
fn damaged(bytes: &[u8]) {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    let mut file = WHOLE.get_or_init(whole).clone();
    for patch in bytes.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % file.len();
        file[at] = patch[2];
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("throughline.sqlite"), file).expect("a database");
    let Some(Open { folder: _kept, store }) = Open::new(folder) else { return };
    read_all(&store);
    // Whether it can still be written is told.
    let _ = (store.check_writable(), store.acknowledge(USER, "by", "note", now()), store.erase(USER), store.cut());
}

/// A database of one user, as a file.
fn whole() -> Vec<u8> {
    let open = Open::new(tempfile::tempdir().expect("a folder")).expect("a new store");
    keep(&open.store, USER, &[message("hello", MessageScore::NOTHING)], b"{}");
    let copy = open.folder.path().join("copy");
    open.store.back_up(&copy).expect("a copy");
    fs::read(copy).expect("a copy that can be read")
}

/// Everything that can be asked: an answer or an error.
fn read_all(store: &Store) {
    let _ = (store.user(USER), store.history(USER), store.scores(USER), store.answered(USER, KEY));
    let _ = (store.alarms(0, false), store.alarms(0, true), store.alarms_of(USER), store.last_alarm());
    let _ = (store.counts(), store.check_whole());
}
