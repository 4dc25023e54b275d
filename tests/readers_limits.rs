//! Limits: over one, a record is left out whole, counted, and told with what to do.
#![cfg(feature = "readers")]

use std::io::Write;
use std::path::Path;

use throughline::transcript::read::{Corpus, Limits, ReadError, Source, load_stream};

fn line(session: &str) -> String {
    format!(r#"{{"user_id":"u","session_id":"{session}","messages":[{{"role":"user","content":"hello"}}]}}"#) + "\n"
}

fn read(text: &[u8], name: &str, set: impl FnOnce(&mut Limits)) -> Corpus {
    let mut source = Source::default();
    set(&mut source.limits);
    load_stream(Path::new(name), text, &source, &mut |_| {}).unwrap()
}

fn shown(corpus: &Corpus) -> String {
    corpus.problems().iter().map(|p| format!("{p}\n")).collect()
}

/// Reads with one limit lowered, expects one record to be left out with the right hint, and
/// gives back the ids of the sessions that were read.
fn over(text: &str, name: &str, setting: &str, set: impl FnOnce(&mut Limits)) -> Vec<String> {
    assert_eq!(read(text.as_bytes(), name, |_| {}).summary().left_out, 0, "{setting}");
    let corpus = read(text.as_bytes(), name, set);
    assert_eq!(corpus.summary().left_out, 1, "{setting}: {}", shown(&corpus));
    let hint = match setting {
        "id_bytes_max" => "give it a shorter id",
        "messages_per_session_max" => "split the session",
        "sessions_per_user_max" | "user_bytes_max" => "split this user's sessions",
        "users_max" | "spool_bytes_max" => "split the files",
        _ => "split it",
    };
    let shown = shown(&corpus);
    assert!(shown.contains(&format!("hint: {hint}")), "{setting}: {shown}");
    // No option, variable or key of a settings file is called so.
    assert!(!shown.contains(setting) && !shown.contains("raise"), "{setting}: {shown}");
    let users = 0..corpus.users().len();
    users.flat_map(|i| corpus.history(i).unwrap().sessions).map(|s| s.session_id).collect()
}

#[test]
fn of_records_and_messages() {
    let long = line("a") + &line("b").replace("hello", &"long ".repeat(100));
    assert_eq!(over(&long, "x.jsonl", "record_bytes_max", |l| l.record_bytes_max = 100), ["a"]);
    assert_eq!(over(&long, "x.jsonl", "message_bytes_max", |l| l.message_bytes_max = 100), ["a"]);
    let list = format!("[{}]", long.trim().replace('\n', ","));
    assert_eq!(over(&list, "x.json", "record_bytes_max", |l| l.record_bytes_max = 100), ["a"]);
    let turn = r#""messages":[{"role":"user","content":"x"},"#;
    let many = line("a") + &line("b").replace(r#""messages":["#, turn);
    let setting = "messages_per_session_max";
    assert_eq!(over(&many, "x.jsonl", setting, |l| l.messages_per_session_max = 1), ["a"]);
    let ids = line("a") + &line(&"b".repeat(99));
    assert_eq!(over(&ids, "x.jsonl", "id_bytes_max", |l| l.id_bytes_max = 10), ["a"]);
}

#[test]
fn of_users_and_of_everything() {
    let two = line("a") + &line("b");
    let setting = "sessions_per_user_max";
    assert_eq!(over(&two, "x.jsonl", setting, |l| l.sessions_per_user_max = 1), ["a"]);
    assert_eq!(over(&two, "x.jsonl", "user_bytes_max", |l| l.user_bytes_max = 100), ["a"]);
    assert_eq!(over(&two, "x.jsonl", "spool_bytes_max", |l| l.spool_bytes_max = 100), ["a"]);
    let users = line("a") + &line("b").replace("\"u\"", "\"v\"");
    assert_eq!(over(&users, "x.jsonl", "users_max", |l| l.users_max = 1), ["a"]);
}

#[test]
fn of_rows_and_plain_text() {
    let rows = format!("session,role,content\na,user,{}\nb,user,b\n", "a".repeat(9000));
    assert_eq!(over(&rows, "x.csv", "record_bytes_max", |l| l.record_bytes_max = 5000), ["b"]);
    assert_eq!(over(&rows, "x.csv", "message_bytes_max", |l| l.message_bytes_max = 5000), ["b"]);
    let apart = "session,role,content\na,user,a\nb,user,b\na,user,c\n";
    let setting = "messages_per_session_max";
    assert_eq!(over(apart, "x.csv", setting, |l| l.messages_per_session_max = 1), ["a", "b"]);
    let text = format!("User: {}\n---\nUser: b\n", "a\n".repeat(300));
    assert_eq!(over(&text, "x.txt", "record_bytes_max", |l| l.record_bytes_max = 500), ["x/2"]);
    let blank = format!("User: a{}b\n---\nUser: b\n", "\n".repeat(600));
    assert_eq!(over(&blank, "x.txt", "record_bytes_max", |l| l.record_bytes_max = 500), ["x/2"]);
}

#[test]
fn all_rows_of_a_session_left_out_are_counted() {
    let text = "session,role,content\nlong,user,a\nlong,user,b\nlong,user,c\nb,user,d\n";
    let corpus = read(text.as_bytes(), "x.csv", |l| l.id_bytes_max = 3);
    let s = corpus.summary();
    assert_eq!((s.records, s.records_read, s.left_out, s.problems), (4, 1, 3, 2));
    assert!(shown(&corpus).contains(", 3 records in all, expected at most 3"), "{}", shown(&corpus));
}

#[test]
fn a_row_of_too_many_fields_is_left_out() {
    let text = format!("role,content\nuser{}\nuser,b\n", ",x".repeat(10_000));
    let corpus = read(text.as_bytes(), "x.csv", |_| {});
    assert_eq!((corpus.summary().left_out, corpus.summary().messages), (1, 1));
    assert!(shown(&corpus).contains("a row of too many fields, expected at most 4096"));
}

#[test]
fn a_packed_bomb_stops_at_the_limit() {
    let text: String = (0..2_000).map(|i| line(&i.to_string())).collect();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    assert_eq!(read(&packed, "x.jsonl.gz", |_| {}).summary().records_read, 2_000);
    let corpus = read(&packed, "x.jsonl.gz", |l| l.unpacked_bytes_max = 100_000);
    let s = corpus.summary();
    assert!(s.records_read > 0 && s.records_read < 2_000, "{s:?}");
    assert_eq!(s.left_out, 1);
    let expected = "more than 100000 bytes after unpacking";
    assert!(shown(&corpus).contains(expected), "{}", shown(&corpus));
}

#[test]
fn problems_are_counted_past_those_that_are_kept() {
    let corpus = read("{}\n".repeat(50).as_bytes(), "x.jsonl", |l| l.problems_max = 10);
    assert_eq!((corpus.problems().len(), corpus.summary().problems), (10, 50));
    let dir = tempfile::tempdir().unwrap();
    for number in 0..50 {
        std::fs::write(dir.path().join(format!("{number}.docx")), "?").unwrap();
    }
    std::fs::write(dir.path().join("a.jsonl"), line("a")).unwrap();
    let mut source = Source::new([dir.path()]);
    source.limits.problems_max = 10;
    let corpus = throughline::transcript::read::load(&source, &mut |_| {}).unwrap();
    let s = corpus.summary();
    assert_eq!((corpus.problems().len(), s.problems, s.skipped_files), (10, 50, 50));
}

#[test]
fn memory_is_the_index_and_not_the_text() {
    let words = "word ".repeat(200);
    let text: String = (0..5_000).map(|i| line(&i.to_string()).replace("hello", &words)).collect();
    let corpus = read(text.as_bytes(), "x.jsonl", |l| l.spool_memory_bytes_max = 1 << 10);
    assert_eq!(corpus.summary().sessions, 5_000);
    assert!(corpus.users()[0].bytes() > 5_000_000);
    assert!(corpus.index_bytes() <= 5_000 * 32 + 200, "{}", corpus.index_bytes());
    let history = corpus.history(0).unwrap();
    assert_eq!((history.sessions[4_999].messages[0].content.as_str()), words);
    assert!(matches!(corpus.history(1), Err(ReadError::NoSuchUser { index: 1, users: 1 })));
}
