//! What is kept is read again; what is sealed does not lie there; what is erased is gone.

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
fn what_is_kept_is_read_again() {
    let (folder, store) = store();
    let first = [message(0, 0, "hello"), message(0, 1, "good morning")];
    let second = [message(1, 0, "again")];
    store.keep(&turn(&store, "ada", &first)).unwrap();
    store.keep(&turn(&store, "bo", &first[..1])).unwrap();
    store.keep(&turn(&store, "ada", &second)).unwrap();
    drop(store);
    let store = Store::open(folder.path(), &key(1)).unwrap();
    let history = store.history("ada").unwrap().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((&history[0].messages[..], &history[1].messages[..]), (&first[..], &second[..]));
    assert_eq!((history[0].session_id.as_str(), history[0].started_at), ("the session's id", Some(now())));
    let row = store.user("ada").unwrap();
    assert_eq!((row.messages, row.sessions, row.open_alarm), (3, 2, false));
    assert_eq!((store.history("cy").unwrap(), store.user("cy").unwrap()), (None, UserRow::default()));
    assert_eq!(store.counts().unwrap(), [2, 4, 0]);
}

#[test]
fn a_turn_on_what_is_no_longer_there_is_refused_whole() {
    let (_folder, store) = store();
    let (first, second) = ([message(0, 0, "hello")], [message(0, 1, "late")]);
    let unknown = turn(&store, "ada", &first);
    store.keep(&unknown).unwrap();
    assert!(matches!(store.keep(&unknown), Err(StoreError::WentOn)), "judged when nothing was known");
    let judged = turn(&store, "ada", &second);
    store.keep(&turn(&store, "ada", &second)).unwrap();
    assert!(matches!(store.keep(&judged), Err(StoreError::WentOn)), "another went before");
    assert_eq!(store.user("ada").unwrap().messages, 2);
    // Whoever was erased and came back is another, though as much is kept.
    store.erase("bo").unwrap();
    store.keep(&turn(&store, "bo", &first)).unwrap();
    let judged = turn(&store, "bo", &second);
    store.erase("bo").unwrap();
    assert!(matches!(store.keep(&judged), Err(StoreError::WentOn)), "erased");
    store.keep(&turn(&store, "bo", &first)).unwrap();
    assert!(matches!(store.keep(&judged), Err(StoreError::WentOn)), "erased, and back");
    assert_eq!(store.user("bo").unwrap().messages, 1);
}

#[test]
fn a_request_has_one_answer_and_a_broken_turn_has_none() {
    let (_folder, store) = store();
    let messages = [message(0, 0, "hello")];
    let asked = |asked, answer| NewTurn {
        request: Some(Request { key: "key-1", asked, answer }),
        ..turn(&store, "ada", &messages)
    };
    store.keep(&asked([7; 32], &|_| b"the answer".to_vec())).unwrap();
    let answered = store.answered("ada", "key-1").unwrap().unwrap();
    assert_eq!(answered, Answered { asked: [7; 32], answer: b"the answer".to_vec() });
    assert_eq!(store.answered("ada", "key-2").unwrap(), None);
    assert_eq!(store.answered("bo", "key-1").unwrap(), None, "keys are of a user");
    // The same key again: neither the message nor a second answer.
    let again = asked([8; 32], &|_| b"another".to_vec());
    assert!(store.keep(&NewTurn { new_session: None, ..again }).is_err());
    assert_eq!(store.user("ada").unwrap().messages, 1);
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
    assert!(store.hold("ada", true).unwrap());
    assert!(!store.hold("cy", true).unwrap());
    assert!(matches!(store.erase("ada"), Err(StoreError::Held)));
    let sealed_key = |user: &str| -> Vec<u8> {
        let digest = store.keys.lookup(user);
        store.lock().query_row("SELECT data_key FROM users WHERE digest = ?1", [digest], |row| row.get(0)).unwrap()
    };
    let (ada, bo) = (sealed_key("ada"), sealed_key("bo"));
    assert!(store.hold("ada", false).unwrap());
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
fn alarms_wait_until_a_person_saw_them() {
    let (_folder, store) = store();
    let messages = [message(0, 0, "one")];
    let alarm = |level| {
        Some(NewAlarm { level, arcs: [level, Level::Watch], at: MessageAt { session: 0, message: 0 }, verdict: b"{}" })
    };
    let first =
        store.keep(&NewTurn { alarm: alarm(Level::Review), ..turn(&store, "ada", &messages) }).unwrap().1.unwrap();
    let other =
        store.keep(&NewTurn { alarm: alarm(Level::Urgent), ..turn(&store, "bo", &messages) }).unwrap().1.unwrap();
    assert!(other > first);
    let row = store.user("ada").unwrap();
    assert_eq!((row.alarmed[0], row.alarmed[1], row.open_alarm), (Some(Level::Review), Some(Level::Watch), true));
    assert_eq!(row.seen_messages, 0);
    assert_eq!(store.acknowledge("ada", "rev", "seen", now()).unwrap(), Some(1));
    assert_eq!(store.acknowledge("ada", "rev", "seen", now()).unwrap(), Some(0));
    assert_eq!(store.acknowledge("cy", "rev", "seen", now()).unwrap(), None);
    let row = store.user("ada").unwrap();
    assert_eq!((row.open_alarm, row.seen_messages), (false, 1));
    assert_eq!(row.alarmed[2], Some(Level::Review), "what was raised stays known");
    let all = store.alarms(0, false).unwrap().alarms;
    assert_eq!(all.iter().map(|alarm| alarm.user_id.as_str()).collect::<Vec<_>>(), ["ada", "bo"]);
    let seen = all[0].acknowledged.as_ref().unwrap();
    assert_eq!((seen.by.as_str(), seen.note.as_str(), seen.at), ("rev", "seen", Some(now())));
    assert_eq!(store.alarms(0, true).unwrap().alarms, [all[1].clone()]);
    assert_eq!(store.alarms(first, false).unwrap().alarms.len(), 1);
    assert_eq!(store.alarms_of("bo").unwrap().alarms, [all[1].clone()]);
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
fn what_does_not_open_hides_nothing_else() {
    for (change, what) in [
        ("UPDATE users SET name = x'00' WHERE id = 1", "a name"),
        ("UPDATE messages SET role = 'assistant' WHERE user = 1", "who said it"),
        ("UPDATE messages SET time_ms = time_ms + 1 WHERE user = 1", "when"),
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
