//! SQLite: what is sealed does not lie there; what is erased is gone; what was changed by hand does not open. What holds for both databases
//! is tested in `tests/store_both.rs`.

use rusqlite::Connection;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &key(1)).unwrap();
    (folder, store)
}

fn key(number: u8) -> MasterKey {
    MasterKey::from_hex(&format!("{number:02x}").repeat(32)).unwrap()
}

#[test]
fn a_key_is_sixty_four_digits_and_nothing_else() {
    let upper = "AB".repeat(32);
    assert_eq!(*MasterKey::from_hex(&format!(" {upper}\n")).unwrap().to_hex(), upper.to_lowercase());
    for text in ["", "ab", &"+a".repeat(32), &"-0".repeat(32), &"é".repeat(32), &"ab".repeat(33)] {
        assert!(MasterKey::from_hex(text).is_none(), "{text}");
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_750_000_000).unwrap()
}

fn message(session: usize, message: usize, text: &str) -> KeptMessage {
    let role = if message.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let score = MessageScore { harassment: [0.7, 0.1, 0.15, 0.05], ..MessageScore::NOTHING };
    KeptMessage {
        at: MessageAt { session, message },
        role,
        content: Some(text.into()),
        digest: Some(text_digest(text)),
        time: Some(now()),
        score: Some(score),
    }
}

fn turn<'a>(store: &Store, user_id: &'a str, messages: &'a [KeptMessage]) -> NewTurn<'a> {
    let user = store.user(user_id).unwrap();
    let new_session = messages.first().filter(|first| first.at.message == 0).map(|_| ("the session's id", Some(now())));
    NewTurn { user_id, user, new_session, messages, alarm: None, request: None, now: now() }
}

#[test]
fn nothing_readable_lies_in_the_folder() {
    let (folder, store) = store();
    let words = ["SECRETWORD", "the session's id", "ada-the-user", "key-word", "ANSWERWORD", "VERDICTWORD", "NOTEWORD"];
    let messages = [message(0, 0, words[0])];
    let alarm = Some(NewAlarm {
        level: Level::Review,
        arcs: [Level::Review, Level::None],
        at: messages[0].at,
        verdict: words[5].as_bytes(),
    });
    let answer = |alarm: Option<i64>| format!("{} {alarm:?}", words[4]).into_bytes();
    let request = Some(Request { key: words[3], asked: [0; 32], answer: &answer });
    store.keep(&NewTurn { alarm, request, ..turn(&store, words[2], &messages) }).unwrap();
    store.acknowledge(words[2], "REVIEWERWORD", words[6], now()).unwrap();
    let mut bytes = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        bytes += content.len();
        for word in words.iter().chain(&["REVIEWERWORD", "\"harassment\""]) {
            let found = content.windows(word.len()).any(|part| part == word.as_bytes());
            // The word for the arc stands in no table's name either.
            assert!(!found, "{word}");
        }
    }
    assert!(bytes > 4_096, "a test that can fail");
}

#[test]
fn another_key_opens_nothing_and_a_newer_form_is_left_alone() {
    let (folder, store) = store();
    drop(store);
    assert!(matches!(Store::open(folder.path(), &key(2)), Err(StoreError::OtherKey { .. })));
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    connection.execute_batch("PRAGMA user_version = 99").unwrap();
    assert!(matches!(Store::open(folder.path(), &key(1)), Err(StoreError::Newer { found: 99, .. })));
}

#[test]
fn a_value_in_another_place_does_not_open() {
    let (folder, store) = store();
    store.keep(&turn(&store, "ada", &[message(0, 0, "one"), message(0, 1, "two")])).unwrap();
    drop(store);
    let connection = Connection::open(folder.path().join(FILE)).unwrap();
    let swap = "UPDATE messages SET content = (SELECT content FROM messages WHERE number = 1) WHERE number = 0";
    assert_eq!(connection.execute(swap, []).unwrap(), 1);
    drop(connection);
    let store = Store::open(folder.path(), &key(1)).unwrap();
    assert!(matches!(store.history("ada"), Err(StoreError::Sealed)));
}

#[test]
fn the_erased_are_gone_unless_they_are_held() {
    let (folder, store) = store();
    store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
    store.keep(&turn(&store, "bo", &[message(0, 0, "two")])).unwrap();
    assert!(store.hold("ada", true, now()).unwrap());
    assert!(matches!(store.erase("ada"), Err(StoreError::Held)));
    let sealed_key = |user: &str| -> Vec<u8> {
        let digest = store.keys.lookup(user);
        let query = "SELECT data_key FROM users WHERE digest = ?1";
        store.database.read(|on| on.first(query, values![digest])?.unwrap().bytes(0)).unwrap()
    };
    let (ada, bo) = (sealed_key("ada"), sealed_key("bo"));
    assert!(store.hold("ada", false, now()).unwrap());
    assert!(store.erase("ada").unwrap());
    assert!(!store.erase("ada").unwrap(), "there is nothing left");
    assert_eq!(store.history("ada").unwrap(), None);
    assert_eq!(store.counts().unwrap(), [1, 1, 0]);
    let lies_there = |key: &[u8]| {
        std::fs::read_dir(folder.path()).unwrap().any(|file| {
            let content = std::fs::read(file.unwrap().path()).unwrap();
            content.windows(key.len()).any(|part| part == key)
        })
    };
    assert!(!lies_there(&ada), "the key of the erased is gone from the disk");
    drop(store);
    assert!(lies_there(&bo), "a test that can fail");
}

#[test]
fn a_copy_is_a_whole_database() {
    let (folder, store) = store();
    store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    store.back_up(&copy.join(FILE)).unwrap();
    assert!(store.back_up(&copy.join(FILE)).is_err(), "a copy is never written over");
    let restored = Store::open(&copy, &key(1)).unwrap();
    assert_eq!(restored.history("ada").unwrap(), store.history("ada").unwrap());
    assert_eq!(restored.check_whole().unwrap(), None);
    #[cfg(unix)]
    for file in [copy.join(FILE), folder.path().join(FILE), folder.path().join(format!("{FILE}-wal"))] {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn what_a_copy_that_broke_off_left_is_in_nobodys_way() {
    let (folder, store) = store();
    store.keep(&turn(&store, "ada", &[message(0, 0, "one")])).unwrap();
    let (copy, partial) = (folder.path().join("copy"), folder.path().join("copy.partial"));
    std::fs::write(&partial, "half of one").unwrap();
    store.back_up(&copy).unwrap();
    assert!(copy.exists() && !partial.exists());
    let written = std::fs::read(&copy).unwrap();
    assert!(matches!(store.back_up(&copy), Err(StoreError::Refused(_))), "a copy is never written over");
    assert_eq!((std::fs::read(&copy).unwrap(), partial.exists()), (written, false));
    let error = store.back_up(&folder.path().join("nowhere").join("copy")).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("hint"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_copy_whose_name_is_no_utf_8_is_refused() {
    let (folder, store) = store();
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"copy\xff");
    let error = store.back_up(&folder.path().join(name)).unwrap_err().to_string();
    assert!(error.contains("UTF-8") && error.contains("hint"), "{error}");
    let left = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().contains("copy")));
}

#[test]
fn alarms_that_wait_are_counted_by_their_index() {
    let (_folder, store) = store();
    let plan = format!("EXPLAIN QUERY PLAN {}", check::OPEN_ALARMS);
    let rows = store.database.read(|on| on.query(&plan, &[])).unwrap();
    assert_eq!(rows.len(), 1);
    assert!(rows[0].text(3).unwrap().contains("INDEX alarms_open"), "{rows:?}");
}

#[test]
fn what_does_not_open_hides_nothing_else() {
    for (change, what) in [
        ("UPDATE users SET name = x'00' WHERE id = 1", "a name"),
        ("UPDATE messages SET role = 'assistant' WHERE owner = 1", "who said it"),
        ("UPDATE messages SET time_ms = time_ms + 1 WHERE owner = 1", "when"),
        ("UPDATE alarms SET verdict = (SELECT verdict FROM alarms WHERE id = 2) WHERE id = 1", "another's verdict"),
    ] {
        let (folder, store) = store();
        let messages = [message(0, 0, "one")];
        for user in ["ada", "bo"] {
            let alarm =
                Some(NewAlarm { level: Level::Senior, arcs: [Level::Senior; 2], at: messages[0].at, verdict: b"{}" });
            store.keep(&NewTurn { alarm, ..turn(&store, user, &messages) }).unwrap();
        }
        assert_eq!(store.check_whole().unwrap(), None);
        let connection = Connection::open(folder.path().join(FILE)).unwrap();
        assert_eq!(connection.execute(change, []).unwrap(), 1, "{what}");
        let told = store.check_whole().unwrap().expect(what);
        assert!(told.contains("1 of 2 users"), "{what}: {told}");
        let listed = store.alarms(0, false).unwrap();
        assert!(listed.alarms.iter().any(|alarm| alarm.user_id == "bo"), "{what}");
        assert_eq!(listed.alarms.len() + listed.unreadable, 2, "{what}");
        assert!(store.erase("ada").unwrap(), "who cannot be read can be erased: {what}");
    }
}

#[test]
fn a_folder_that_is_not_there_and_a_file_that_is_no_database_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&folder.path().join("nowhere"), &key(1)).err().unwrap().to_string();
    assert!(error.contains("nowhere") && error.contains("hint"), "{error}");
    std::fs::write(folder.path().join(FILE), [b'x'; 8_192]).unwrap();
    let error = Store::open(folder.path(), &key(1)).err().unwrap().to_string();
    assert!(error.contains("damaged") && error.contains("hint"), "{error}");
}
