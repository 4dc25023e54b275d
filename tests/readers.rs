//! Each transcript format, read from a fixture and compared with what a person reads in it.
#![cfg(feature = "readers")]

use std::path::PathBuf;

use throughline::transcript::Session;
use throughline::transcript::read::{Corpus, Format, Outcome, Source, load};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts").join(name)
}

fn read(name: &str) -> Corpus {
    let corpus = load(&Source::new([fixture(name)]), &mut |_| {}).unwrap();
    let summary = corpus.summary();
    assert_eq!(summary.records, summary.records_read + summary.left_out, "{summary:?}");
    corpus
}

fn session_lines(session: &Session) -> Vec<String> {
    let start = session.start().map_or("undated".into(), |t| t.to_string());
    let mut lines = vec![format!("{} {start}", session.session_id)];
    lines.extend(session.messages.iter().map(|m| format!("{}: {}", m.role.as_str(), m.content)));
    lines
}

/// One line a user, session and message.
fn lines(corpus: &Corpus) -> Vec<String> {
    let mut out = Vec::new();
    for (index, user) in corpus.users().iter().enumerate() {
        let history = corpus.history(index).unwrap();
        assert_eq!(history.user_id, user.user_id());
        assert_eq!(history.sessions.len(), user.session_count());
        assert_eq!(history.message_count() as u64, user.message_count());
        out.push(format!("= {}", history.user_id));
        out.extend(history.sessions.iter().flat_map(session_lines));
    }
    out
}

fn problems(corpus: &Corpus) -> Vec<String> {
    let folder = fixture("").display().to_string();
    let shown: Vec<String> = corpus.problems().iter().map(|p| p.to_string().replace(&folder, "")).collect();
    let private = ["SECRET", "WORDS", "parrot", "narrator", "owl"];
    assert!(!shown.iter().any(|p| private.iter().any(|word| p.contains(word))), "{shown:#?}");
    shown
}

#[test]
fn native_lines() {
    let corpus = read("native.jsonl");
    assert_eq!(
        lines(&corpus),
        [
            "= ana",
            "s1 2026-03-01T20:11:00Z",
            "system: Be brief.",
            "user: Two parts,\n[image]\none message",
            "s1#2 undated",
            "user: The same id again",
            "s2 2026-03-02T08:00:00Z",
            "user: Which tea keeps best?",
            "assistant: Black tea, kept dry.",
            "= ben",
            "b1 undated",
            "user: Undated one",
            "b2 undated",
            "user: Undated two",
        ]
    );
    let s = corpus.summary();
    assert_eq!((s.records, s.left_out, s.sessions, s.messages, s.users), (5, 0, 5, 7, 2));
    assert_eq!((s.empty_messages, s.unread_times, s.kept_apart, s.repeated_sessions), (1, 1, 1, 1));
    assert_eq!(
        problems(&corpus),
        [
            "native.jsonl:6: notice: found a session id that this user has already, expected each id once; hint: \
             both are kept, the later one under `id#2` and so on; remove one if they are versions of one session",
            "native.jsonl: notice: found 1 messages without text, expected text; hint: they were dropped",
            "native.jsonl: notice: found 1 messages that are instructions, hidden or reasoning; hint: they are kept \
             apart, in the role `system`",
            "native.jsonl: notice: found 1 times that cannot be read, expected RFC 3339 or unix time; hint: what they \
             date is kept, undated",
        ]
    );
    assert!(corpus.problems().iter().all(|p| p.outcome == Outcome::Notice));
}

#[test]
fn openai_lines() {
    let corpus = read("openai.jsonl");
    assert_eq!(
        lines(&corpus),
        [
            "= openai",
            "openai/1 undated",
            "system: You are a gardener.",
            "user: What is on this photo?\n[image]\n[audio]\n[attachment: soil.pdf]",
            "tool: identify({\"n\":1})",
            "tool: rose",
            "assistant: A rose.",
            "= cem",
            "openai/2 undated",
            "user: When do I water it?",
            "assistant: I would rather not say.",
        ]
    );
}

#[test]
fn chatgpt_export() {
    let corpus = read("mina/conversations.json");
    assert_eq!(
        lines(&corpus),
        [
            "= mina",
            "c-leaf 1970-01-01T00:00:10Z",
            "user: Pick",
            "assistant: the newest",
            "c-bread 2026-03-01T20:11:00.5Z",
            "system: I bake.\nBe kind.",
            "user: [image]\nIs this dough ready?\n[attachment: recipe.pdf]",
            "tool: search(\"dough\")",
            "tool: 3 results",
            "system: Look at it",
            "assistant: Not yet,\nwait an hour.",
            "c-broken undated",
            "user: Hello?",
            "assistant: Hello.",
            "c-circle undated",
            "user: Round",
            "assistant: and round",
        ]
    );
    let history = corpus.history(0).unwrap();
    let dough = &history.sessions[1].messages[1];
    assert_eq!(dough.timestamp.unwrap().to_string(), "2026-03-01T20:12:00.25Z");
    let s = corpus.summary();
    assert_eq!((s.records, s.records_read, s.left_out), (5, 4, 1));
    assert_eq!((s.other_branches, s.kept_apart, s.empty_messages), (3, 2, 1));
    let shown = problems(&corpus);
    for expected in [
        ": record 2 at byte 2481: notice: found a parent that is not there",
        "notice: found a circle of parents",
        "notice: found no `current_node` among the nodes",
        "left out: found a list in `mapping`, expected an object of nodes",
        "notice: found 3 messages off the active branch",
    ] {
        assert!(shown.iter().any(|p| p.contains(expected)), "{expected} in {shown:#?}");
    }
}

#[test]
fn claude_export() {
    let corpus = read("claude.json");
    assert_eq!(
        lines(&corpus),
        [
            "= acc-1",
            "k1 2026-03-01T20:11:00Z",
            "user: Where shall I walk?\n[attachment: map.pdf]\npasted words\n[attachment: hill.jpg]",
            "system: Hills.",
            "assistant: Up the hill",
            "tool: weather({\"day\":1})\ndry",
            "assistant: It stays dry.",
            "user: Only text here",
        ]
    );
    let shown = problems(&corpus);
    assert!(shown[0].contains("left out: found an unknown role in `chat_messages[0].sender`"), "{shown:#?}");
    assert_eq!(corpus.summary().empty_messages, 1);
}

#[test]
fn sharegpt_list() {
    let corpus = read("sharegpt.json");
    assert_eq!(
        lines(&corpus),
        [
            "= g1",
            "g1 undated",
            "system: Be helpful.",
            "user: Name a fish.",
            "assistant: Trout.",
            "tool: count()",
            "tool: 1",
            "assistant: One trout.",
            "= sharegpt/2",
            "sharegpt/2 undated",
            "user: Name a bird.",
            "assistant: Wren.",
        ]
    );
}

#[test]
fn wildchat_and_lmsys_lines() {
    let corpus = read("wildchat.jsonl");
    assert_eq!(
        lines(&corpus),
        [
            "= ip-a",
            "w2 2023-04-08T10:00:00Z",
            "user: And the sun?",
            "assistant: 150 million km.",
            "w1 2023-04-09T00:05:00Z",
            "user: How far is the moon?",
            "assistant: About 384,400 km.",
            "= l1",
            "l1 2023-03-28T10:40:00.5Z",
            "user: Hello",
            "assistant: Hello!",
        ]
    );
}

#[test]
fn a_named_user_takes_the_records_that_name_none() {
    let source = Source { user: Some("zoe".into()), ..Source::new([fixture("wildchat.jsonl")]) };
    let corpus = load(&source, &mut |_| {}).unwrap();
    let ids: Vec<_> = corpus.users().iter().map(|u| u.user_id()).collect();
    assert_eq!(ids, ["ip-a", "zoe"]);
}

#[test]
fn csv_rows_in_any_order() {
    let corpus = read("chats.csv");
    assert_eq!(
        lines(&corpus),
        [
            "= ana",
            "s1 2026-03-01T20:11:00Z",
            "user: One, with a comma\r\nand \"quotes\"",
            "user: Two",
            "assistant: Three",
            "= ben",
            "t1 2026-03-01T20:11:01Z",
            "user: Between",
            "= chats",
            "s9 undated",
            "user: Nobody",
        ]
    );
    let s = corpus.summary();
    assert_eq!((s.records, s.records_read, s.left_out, s.sessions), (8, 5, 3, 3));
    assert_eq!(s.unread_times, 1);
    let shown = problems(&corpus);
    for expected in [
        "left out: found a session without any text",
        "row 6: left out: found an unknown role, expected the name of a role",
        "row 7: left out: found 8 fields, expected 6",
    ] {
        assert!(shown.iter().any(|p| p.contains(expected)), "{expected} in {shown:#?}");
    }
}

#[test]
fn plain_text() {
    let corpus = read("talk.txt");
    assert_eq!(
        lines(&corpus),
        [
            "= talk",
            "talk/2 2026-03-01T20:11:00Z",
            "user: A question,\non two lines",
            "assistant: First paragraph\n\n---\nafter a rule of the answer\n\n\ntwo blank lines are inside as well",
            "user: labels may be bold",
            "talk/3 undated",
            "user: another session",
            "assistant: yes",
            "talk/4 undated",
            "user: dated badly",
            "talk/5 undated",
            "assistant: two blank lines made a session of this",
        ]
    );
    let shown = problems(&corpus);
    assert!(shown[0].starts_with("talk.txt:1: left out: found 1 lines before the first message"), "{shown:#?}");
    assert!(shown[1].contains("1 times that cannot be read"), "{shown:#?}");
    assert_eq!((corpus.summary().records, corpus.summary().left_out), (5, 1));
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_written_by_another_implementation() {
    let corpus = read("wildchat.parquet");
    assert_eq!(
        lines(&corpus),
        [
            "= ip-a",
            "p1 2023-04-08T10:00:00Z",
            "user: Ünïcode ✓",
            "assistant: Yes.",
            "p2 2023-04-09T00:05:00.25Z",
            "user: How deep is the lake?",
            "assistant: About 40 m.",
            "= p3",
            "p3 undated",
            "user: Nobody's",
        ]
    );
    let shown = problems(&corpus);
    assert!(shown[0].contains("wildchat.parquet: row 4: left out: found an unknown role"), "{shown:#?}");
    assert!(shown[1].contains("wildchat.parquet: row 5: left out: found nothing in `conversation`"), "{shown:#?}");
    assert_eq!((corpus.summary().records, corpus.summary().left_out), (5, 2));
}

#[cfg(feature = "parquet")]
#[test]
fn a_long_row_of_parquet_is_left_out() {
    let mut source = Source::new([fixture("wildchat.parquet")]);
    source.limits.record_bytes_max = 170;
    let corpus = load(&source, &mut |_| {}).unwrap();
    let shown = problems(&corpus);
    assert!(shown[0].contains("row 1: left out: found 1") && shown[0].contains("hint: split it"), "{shown:#?}");
    assert_eq!(corpus.users()[0].session_count(), 1);
}

#[cfg(feature = "parquet")]
#[test]
fn damaged_parquet_is_told_and_never_panics() {
    let whole = std::fs::read(fixture("wildchat.parquet")).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let mut broken = whole.clone();
        broken[at] ^= 0x55;
        let source = Source { format: Some(Format::Parquet), ..Source::default() };
        let name = PathBuf::from("broken.parquet");
        let corpus = throughline::transcript::read::load_stream(&name, &broken[..], &source, &mut |_| {}).unwrap();
        let s = corpus.summary();
        assert_eq!(s.records, s.records_read + s.left_out);
    }
    let cut = &whole[..whole.len() / 2];
    let corpus =
        throughline::transcript::read::load_stream(&PathBuf::from("cut.parquet"), cut, &Source::default(), &mut |_| {})
            .unwrap();
    assert_eq!((corpus.summary().files, corpus.summary().skipped_files), (0, 1));
}

/// A file of no rows whose schema is groups, one in another, as `parquet.thrift` and Thrift's compact protocol have it.
#[cfg(feature = "parquet")]
fn nested_parquet(levels: usize) -> Vec<u8> {
    let varint = |mut value: usize| {
        let mut bytes = Vec::new();
        while value > 127 {
            bytes.push(value as u8 | 128);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let mut metadata = [&[0x15, 2, 0x19, 0xfc][..], &varint(levels + 2)].concat();
    metadata.extend(b"\x48\x01r\x15\x02\0"); // the root, of one child
    for _ in 0..levels {
        metadata.extend(b"\x35\x00\x18\x08messages\x15\x02\0"); // required, of one child
    }
    metadata.extend(b"\x15\x0c\x25\x00\x18\x01x\0"); // a required byte array
    metadata.extend(b"\x16\x00\x19\x0c\0"); // no rows, no groups of rows
    [b"PAR1", &metadata[..], &(metadata.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// The decoder calls itself once a level: a stack that overflows would end the program.
#[cfg(feature = "parquet")]
#[test]
fn parquet_of_endless_groups_is_refused_before_it_is_decoded() {
    let problem = |levels: usize| {
        let bytes = nested_parquet(levels);
        let source = Source { format: Some(Format::Parquet), ..Source::default() };
        let name = PathBuf::from("deep.parquet");
        let corpus = throughline::transcript::read::load_stream(&name, &bytes[..], &source, &mut |_| {}).unwrap();
        corpus.problems().iter().map(|problem| problem.found.clone()).collect::<String>()
    };
    assert_eq!(problem(5), "", "a schema that is read");
    for levels in [64, 500_000] {
        assert_eq!(problem(levels), "Parquet with more than 64 levels of groups");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_without_its_feature_says_how_to_rebuild() {
    let corpus = read("wildchat.parquet");
    assert_eq!((corpus.summary().files, corpus.summary().skipped_files), (0, 1));
    assert!(corpus.problems()[0].hint.contains("--features parquet"));
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert_eq!("LMSYS".parse(), Ok(Format::WildChat));
    let error = "docx".parse::<Format>().unwrap_err().to_string();
    assert!(error.contains("`docx`") && error.contains("hint: one of native"), "{error}");
}

#[test]
fn formats_are_told_apart_by_content_whatever_the_name() {
    let cases = [
        ("native.jsonl", "ana"),
        ("openai.jsonl", "stdin"),
        ("mina/conversations.json", "stdin"),
        ("claude.json", "acc-1"),
        ("sharegpt.json", "g1"),
        ("wildchat.jsonl", "ip-a"),
        ("chats.csv", "ana"),
        ("talk.txt", "stdin"),
    ];
    for (name, user) in cases {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let stream = |source: &Source| {
            let name = PathBuf::from("stdin");
            throughline::transcript::read::load_stream(&name, &bytes[..], source, &mut |_| {}).unwrap()
        };
        let told = stream(&Source::default());
        assert_eq!(told.users()[0].user_id(), user, "{name}");
        assert_eq!(told.summary().sessions, read(name).summary().sessions, "{name}");
    }
}
