//! What must hold for any input: no panic, books that add up, and the same histories however the
//! same sessions are written down.
#![cfg(feature = "readers")]

use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use throughline::transcript::read::{Corpus, Format, Limits, Outcome, Source, load_stream};
use throughline::transcript::{History, Message, Role, Session};

const FIXTURES: [&str; 9] = [
    "native.jsonl",
    "openai.jsonl",
    "mina/conversations.json",
    "claude.json",
    "sharegpt.json",
    "wildchat.jsonl",
    "chats.csv",
    "talk.txt",
    "wildchat.parquet",
];

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts").join(name)).unwrap()
}

fn read(bytes: &[u8], name: &str, source: &Source) -> Corpus {
    load_stream(Path::new(name), bytes, source, &mut |_| {}).unwrap()
}

/// The books of a corpus add up, and everything in it can be read back.
fn check(corpus: &Corpus) {
    let s = corpus.summary();
    assert_eq!(s.records, s.records_read + s.left_out, "{s:?}");
    assert_eq!(s.users, corpus.users().len() as u64);
    assert_eq!(s.problems, corpus.problems().len() as u64);
    // Rows of one session are told in one problem.
    let told = corpus.problems().iter().filter(|p| p.outcome == Outcome::LeftOut);
    let told = told.count() as u64;
    assert!(told <= s.left_out && (told > 0) == (s.left_out > 0), "{s:?}");
    let histories: Vec<History> = (0..corpus.users().len()).map(|i| corpus.history(i).unwrap()).collect();
    assert_eq!(s.sessions, histories.iter().map(|h| h.sessions.len() as u64).sum::<u64>());
    assert_eq!(s.messages, histories.iter().map(|h| h.message_count() as u64).sum::<u64>());
    let said = histories.iter().flat_map(|h| &h.sessions).flat_map(|s| &s.messages);
    assert!(said.clone().all(|m| !m.content.trim().is_empty()));
}

fn small_limits() -> Limits {
    Limits {
        record_bytes_max: 300,
        message_bytes_max: 40,
        messages_per_session_max: 3,
        sessions_per_user_max: 3,
        users_max: 3,
        id_bytes_max: 8,
        spool_memory_bytes_max: 64,
        unpacked_bytes_max: 2_000,
        problems_max: usize::MAX,
        ..Limits::default()
    }
}

/// A fixture with some bytes replaced, cut out, or repeated.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..40_usize, 0..4_u8), 0..6);
    (prop::sample::select(FIXTURES.to_vec()), edits).prop_map(|(name, edits)| {
        let mut bytes = fixture(name);
        for (at, byte, len, kind) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            let end = (at + len).min(bytes.len());
            match kind {
                0 => bytes[at..end].fill(byte),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let again = bytes[at..end].to_vec();
                    drop(bytes.splice(at..at, again));
                }
                _ => bytes.insert(at, b"\"{}[],:\n\\-"[usize::from(byte) % 10]),
            }
        }
        bytes
    })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (1_600_000_000_i64..1_900_000_000, 0..1_000_000_000_i32).prop_map(|(s, n)| Timestamp::new(s, n).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    "(\\PC|[\"\\\\{}\\[\\],\n\t\u{0}]){0,30}[a-zß日]".prop_map(|t| t)
}

fn message() -> impl Strategy<Value = Message> {
    let role = prop::sample::select(vec![Role::User, Role::Assistant, Role::System, Role::Tool]);
    (role, text(), prop::option::of(timestamp())).prop_map(|(role, content, timestamp)| Message {
        role,
        content,
        timestamp,
    })
}

/// Dated sessions of up to three users, no id twice.
fn sessions() -> impl Strategy<Value = Vec<(String, Session)>> {
    let session = (0..3_u8, timestamp(), prop::collection::vec(message(), 1..5));
    prop::collection::vec(session, 1..12).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(number, (user, start, messages))| {
                let session = Session { session_id: format!("s{number}"), started_at: Some(start), messages };
                (format!("user {user}"), session)
            })
            .collect()
    })
}

/// What the sessions are as histories, by users: worked out here, not by the reader.
fn histories_of(sessions: &[(String, Session)]) -> Vec<History> {
    let mut users: Vec<&String> = sessions.iter().map(|(user, _)| user).collect();
    users.sort();
    users.dedup();
    let of = |user: &String| {
        let mut own: Vec<Session> = sessions.iter().filter(|(u, _)| u == user).map(|(_, s)| s.clone()).collect();
        own.sort_by_key(|s| (s.started_at.unwrap().as_nanosecond(), s.session_id.clone()));
        History { user_id: user.clone(), sessions: own }
    };
    users.into_iter().map(of).collect()
}

fn histories(corpus: &Corpus) -> Vec<History> {
    let mut all: Vec<History> = (0..corpus.users().len()).map(|i| corpus.history(i).unwrap()).collect();
    all.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    all
}

fn native(user: &str, session: &Session) -> Value {
    let mut value = serde_json::to_value(session).unwrap();
    value["user_id"] = json!(user);
    value
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|v| format!("{v}\n")).collect()
}

/// The same instant, written in another zone.
fn moved(time: Timestamp, minutes: i32) -> String {
    let offset = jiff::tz::Offset::from_seconds(minutes * 60).unwrap();
    time.display_with_offset(offset).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_format_are_read_or_told(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for format in Format::ALL {
            for limits in [Limits { problems_max: usize::MAX, ..Limits::default() }, small_limits()] {
                let source = Source { format: Some(format), limits, ..Source::default() };
                check(&read(&bytes, "x.json", &source));
                check(&read(&bytes, "x.jsonl", &source));
            }
        }
    }

    #[test]
    fn damaged_files_are_read_or_told(bytes in damaged(), format in prop::sample::select(Format::ALL.to_vec())) {
        for format in [None, Some(format)] {
            for limits in [Limits { problems_max: usize::MAX, ..Limits::default() }, small_limits()] {
                let source = Source { format, limits, ..Source::default() };
                if let Ok(corpus) = load_stream(Path::new("x"), &bytes[..], &source, &mut |_| {}) {
                    check(&corpus);
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read(sessions in sessions()) {
        let values: Vec<Value> = sessions.iter().map(|(user, s)| native(user, s)).collect();
        let source = Source { format: Some(Format::Native), ..Source::default() };
        let expected = histories_of(&sessions);
        let by_lines = read(lines(&values).as_bytes(), "x.jsonl", &source);
        check(&by_lines);
        prop_assert_eq!(&histories(&by_lines), &expected);
        let list = serde_json::to_string_pretty(&values).unwrap();
        prop_assert_eq!(&histories(&read(list.as_bytes(), "x.json", &source)), &expected);
        let spread: String = values.iter().map(|v| serde_json::to_string_pretty(v).unwrap()).collect();
        prop_assert_eq!(&histories(&read(spread.as_bytes(), "x.json", &source)), &expected);
    }

    #[test]
    fn neither_the_order_nor_the_zone_of_sessions_matters(
        (sessions, shuffled) in sessions().prop_flat_map(|s| (Just(s.clone()), Just(s).prop_shuffle())),
        minutes in prop::collection::vec(-12 * 60..14 * 60, 12),
    ) {
        let source = Source { format: Some(Format::Native), ..Source::default() };
        let plain: Vec<Value> = sessions.iter().map(|(user, s)| native(user, s)).collect();
        let elsewhere: Vec<Value> = shuffled.iter().zip(&minutes).map(|((user, s), minutes)| {
            let mut value = native(user, s);
            value["started_at"] = json!(moved(s.started_at.unwrap(), *minutes));
            for (at, m) in s.messages.iter().enumerate() {
                if let Some(time) = m.timestamp {
                    value["messages"][at]["timestamp"] = json!(moved(time, -*minutes));
                }
            }
            value
        }).collect();
        let one = histories(&read(lines(&plain).as_bytes(), "x.jsonl", &source));
        let other = histories(&read(lines(&elsewhere).as_bytes(), "x.jsonl", &source));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn rows_written_by_the_csv_crate_are_read(
        sessions in sessions(), order in any::<u64>(), delimiter in prop::sample::select(vec![b',', b';', b'\t']),
    ) {
        let mut rows: Vec<(usize, usize)> = sessions.iter().enumerate()
            .flat_map(|(s, (_, session))| (0..session.messages.len()).map(move |m| (s, m))).collect();
        // Sessions interleave; the order inside each stands.
        rows.sort_by_key(|(s, m)| (order.rotate_left((*s * 7 + *m) as u32) & 7) + 8 * *m as u64);
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        writer.write_record(["role", "session", "content", "user"]).unwrap();
        for (s, m) in rows {
            let (user, session) = &sessions[s];
            let message = &session.messages[m];
            writer.write_record([message.role.as_str(), &session.session_id, &message.content, user]).unwrap();
        }
        let bytes = writer.into_inner().unwrap();
        let corpus = read(&bytes, "x.csv", &Source::default());
        check(&corpus);
        let mut expected = histories_of(&sessions);
        let mut got = histories(&corpus);
        for history in expected.iter_mut().chain(&mut got) {
            history.sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
            for session in &mut history.sessions {
                session.started_at = None;
                session.messages.iter_mut().for_each(|m| m.timestamp = None);
            }
        }
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn plain_text_keeps_what_was_said(sessions in prop::collection::vec(
        prop::collection::vec((any::<bool>(), "[a-z ,.ß]{0,20}[a-z](\n{1,2}[a-z ,.ß]{0,20}[a-z.]){0,3}"), 1..4), 1..5)
    ) {
        let mut text = String::new();
        for messages in &sessions {
            text.push_str("---\n");
            for (user, said) in messages {
                text.push_str(if *user { "User: " } else { "Assistant: " });
                text.push_str(said.trim());
                text.push('\n');
            }
        }
        let corpus = read(text.as_bytes(), "x.txt", &Source::default());
        check(&corpus);
        let got: Vec<Vec<(bool, String)>> = corpus.history(0).unwrap().sessions.into_iter()
            .map(|s| s.messages.into_iter().map(|m| (m.role == Role::User, m.content)).collect()).collect();
        let expected: Vec<Vec<(bool, String)>> = sessions.iter()
            .map(|s| s.iter().map(|(user, said)| (*user, said.trim().to_owned())).collect()).collect();
        prop_assert_eq!(got, expected);
    }
}
