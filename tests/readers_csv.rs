//! CSV: columns by name, and rows of one session that lie apart.
#![cfg(feature = "readers")]

use std::path::Path;

use throughline::transcript::read::{Corpus, CsvColumns, Source, load, load_stream};

fn read_all(source: &Source) -> Corpus {
    load(source, &mut |_| {}).unwrap()
}

fn read_bytes(bytes: &[u8], name: &str, source: &Source) -> Corpus {
    load_stream(Path::new(name), bytes, source, &mut |_| {}).unwrap()
}

fn shown(corpus: &Corpus) -> String {
    corpus.problems().iter().map(|p| format!("{p}\n")).collect()
}

#[test]
fn csv_columns_by_name() {
    let csv = CsvColumns {
        user: Some("Who".into()),
        session: Some("ticket".into()),
        role: Some("side".into()),
        content: Some("words".into()),
        timestamp: Some("at".into()),
        delimiter: None,
    };
    let text = "at;who;words;side;Ticket;content\n2026-03-01T20:11:00Z;kim;hello;human;7;other\n";
    let corpus = read_bytes(text.as_bytes(), "a.csv", &Source { csv: csv.clone(), ..Source::default() });
    let history = corpus.history(0).unwrap();
    assert_eq!((history.user_id.as_str(), history.sessions[0].session_id.as_str()), ("kim", "7"));
    assert_eq!(history.sessions[0].messages[0].content, "hello");
    assert_eq!(history.sessions[0].start().unwrap().to_string(), "2026-03-01T20:11:00Z");

    let corpus = read_bytes(b"role,content\nuser,x\n", "a.csv", &Source { csv, ..Source::default() });
    assert_eq!((corpus.summary().files, corpus.summary().skipped_files), (0, 1));
    assert!(shown(&corpus).contains("found no column `Who` in the first line"), "{}", shown(&corpus));
    let corpus = read_bytes(b"role\ttext\nuser\ta, b; c\n", "a.tsv", &Source::default());
    assert_eq!(corpus.history(0).unwrap().sessions[0].messages[0].content, "a, b; c");
}

#[test]
fn rows_of_one_session_stay_together_within_a_file_and_apart_between_files() {
    let a = "session,role,content\ns,user,1\nt,user,x\ns,user,2\n";
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.csv", "b.csv"] {
        std::fs::write(dir.path().join(name), a).unwrap();
    }
    let corpus = read_all(&Source { user: Some("u".into()), ..Source::new([dir.path()]) });
    let history = corpus.history(0).unwrap();
    let shown: Vec<String> = history
        .sessions
        .iter()
        .map(|s| format!("{} {}", s.session_id, s.messages.iter().map(|m| m.content.as_str()).collect::<String>()))
        .collect();
    assert_eq!(shown, ["s 12", "t x", "s#2 12", "t#2 x"]);
    assert_eq!(corpus.summary().repeated_sessions, 2);
}
