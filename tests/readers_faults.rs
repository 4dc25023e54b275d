//! What real files get wrong, and what a reader must not make of it.
#![cfg(feature = "readers")]

use std::fs;
use std::io::Write;
use std::path::Path;

use throughline::transcript::read::{Corpus, Source, load, load_stream};

fn read(bytes: impl AsRef<[u8]>, name: &str) -> Corpus {
    load_stream(Path::new(name), bytes.as_ref(), &Source::default(), &mut |_| {}).unwrap()
}

fn shown(corpus: &Corpus) -> String {
    corpus.problems().iter().map(|p| format!("{p}\n")).collect()
}

fn session_ids(corpus: &Corpus) -> Vec<String> {
    (0..corpus.users().len()).flat_map(|i| corpus.history(i).unwrap().sessions).map(|s| s.session_id).collect()
}

fn said(corpus: &Corpus) -> Vec<String> {
    let sessions = (0..corpus.users().len()).flat_map(|i| corpus.history(i).unwrap().sessions);
    sessions.flat_map(|s| s.messages).map(|m| m.content).collect()
}

/// A line of user `u`, with a start where one is given.
fn line(session: &str, start: &str) -> String {
    let start = if start.is_empty() { String::new() } else { format!(r#""started_at":"{start}","#) };
    format!(r#"{{"user_id":"u","session_id":"{session}",{start}"messages":[{{"role":"user","content":"hi"}}]}}"#) + "\n"
}

#[test]
fn a_quote_that_is_never_closed_is_told_with_what_it_swallowed() {
    let head = "user,session,role,content\n";
    let rest = "b,s2,user,I will follow her\nb,s2,assistant,no\nc,s3,user,hello";
    for end in ["", "\n", "\r\n"] {
        let corpus = read(format!("{head}z,s0,user,x\na,s1,user,\"hi there\n{rest}{end}"), "a.csv");
        let s = corpus.summary();
        assert_eq!((s.users, s.messages, s.left_out), (1, 1, 1), "{end:?}");
        let expected = "a.csv:3: row 2: left out: found a quote that is never closed, with 3 more lines inside";
        assert!(shown(&corpus).contains(expected), "{}", shown(&corpus));
    }
    // The next quote closes it, and text follows.
    let corpus = read(format!("{head}a,s1,user,\"hi\nb,s2,user,\"so\"\n{rest}"), "a.csv");
    assert_eq!((corpus.summary().users, corpus.summary().messages, corpus.summary().left_out), (2, 3, 1));
    let expected = "row 1: left out: found text after a closing quote, with 1 more line inside";
    assert!(shown(&corpus).contains(expected), "{}", shown(&corpus));
    assert!(shown(&corpus).contains("hint: double the quotes inside a quoted field"));
}

#[test]
fn quotes_as_they_should_be_are_no_problem() {
    let text = "user,role,content\r\n\r\n\"a\",user,\"x \"\"y\"\", z\r\n\r\nmore\"\r\na,\"user\",5\" wide\n\"a\",user,\"\"\"\"";
    let corpus = read(text, "a.csv");
    assert_eq!(
        (said(&corpus), shown(&corpus)),
        (vec!["x \"y\", z\r\n\r\nmore".into(), "5\" wide".into(), "\"".into()], String::new())
    );
}
