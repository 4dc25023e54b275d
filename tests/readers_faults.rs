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

#[test]
fn too_much_text_in_one_session_stops_at_the_first_fault() {
    // A reader that went over all messages again at every further line would not come back in a test's time.
    let many = "User:a\n".repeat(1_202_000) + "---\nUser: b\n";
    let corpus = read(many, "x.txt");
    assert_eq!((session_ids(&corpus), corpus.summary().left_out), (vec!["x/2".to_owned()], 1));
    let expected = "x.txt:1: left out: found more than 100000 messages in one session, expected at most 100000; hint: \
                    split the session into several";
    assert!(shown(&corpus).contains(expected), "{}", shown(&corpus));
    let bad = ["User:a\n".repeat(90_000).as_bytes(), &b"\xff\n".repeat(200_000), b"\n\nUser: b\n"].concat();
    let corpus = read(bad, "x.txt");
    assert_eq!((session_ids(&corpus), corpus.summary().left_out), (vec!["x/2".to_owned()], 1));
}

#[test]
fn the_bytes_of_a_session_of_text_are_those_of_the_file() {
    let mut source = Source::default();
    source.limits.record_bytes_max = 100;
    let stream = "User: a\n".repeat(12);
    let corpus = load_stream(Path::new("x.txt"), stream.as_bytes(), &source, &mut |_| {}).unwrap();
    assert_eq!((corpus.summary().messages, shown(&corpus).contains("left out")), (12, false));
}

#[test]
fn only_known_extensions_are_cut_from_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["mary.smith.txt", "mary.jones.txt", "mary.lee.JSONL.gz", "mary.kay.text.zst", "mary.2026"];
    for name in names {
        fs::write(dir.path().join(name), "User: hello\nAssistant: hello\n").unwrap();
    }
    let corpus = load(&Source::new(names.map(|name| dir.path().join(name))), &mut |_| {}).unwrap();
    let mut users: Vec<&str> = corpus.users().iter().map(|u| u.user_id()).collect();
    users.sort_unstable();
    // The lines of the third are no JSON.
    assert_eq!(users, ["mary.2026", "mary.jones", "mary.kay", "mary.smith"]);
    let corpus = read(line("", "").replace(r#""user_id":"u","#, ""), "mary.lee.JSONL.gz");
    assert_eq!(corpus.users()[0].user_id(), "mary.lee");
}

#[cfg(unix)]
#[test]
fn globs_open_only_files_and_follow_no_links_they_find() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("f/deep/er")).unwrap();
    fs::write(at("f/a.jsonl"), line("a", "")).unwrap();
    fs::write(at("f/deep/er/b.jsonl"), line("b", "")).unwrap();
    std::os::unix::fs::symlink("..", at("f/one")).unwrap();
    std::os::unix::fs::symlink("..", at("f/two")).unwrap();
    std::os::unix::fs::symlink("a.jsonl", at("f/c.jsonl")).unwrap();
    std::os::unix::fs::symlink("f", at("named")).unwrap();
    let read = |pattern: &str| load(&Source::new([at(pattern)]), &mut |_| {}).unwrap();
    assert_eq!(session_ids(&read("**/*.jsonl")), ["a", "b"]);
    assert_eq!(session_ids(&read("f/**/b.jsonl")), ["b"]);
    assert_eq!(session_ids(&read("f/**")), ["a", "b"]);
    assert_eq!(session_ids(&read("?/d*p/[e]r/*")), ["b"]);
    assert_eq!(session_ids(&read("named/*.jsonl")), ["a"]);
    assert!(shown(&read("f/*")).contains("f/one: file skipped: found a link to a folder"));
    assert!(std::process::Command::new("mkfifo").arg(at("f/fifo")).status().unwrap().success());
    let corpus = read("f/*");
    assert_eq!(session_ids(&corpus), ["a", "b"]);
    assert!(shown(&corpus).contains("f/fifo: file skipped: found neither a file nor a folder"), "{}", shown(&corpus));
}

/// Bites only for a user to whom folders can be closed, so not for root.
#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_opened_stops_a_read_only_where_it_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (file, closed) = (dir.path().join("a.jsonl"), dir.path().join("b"));
    fs::write(&file, line("a", "")).unwrap();
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&closed).is_ok() {
        return;
    }
    for pattern in ["*", "**/*", "**", ""] {
        let corpus = load(&Source::new([dir.path().join(pattern)]), &mut |_| {}).unwrap();
        assert_eq!(session_ids(&corpus), ["a"], "{pattern}");
        assert!(shown(&corpus).contains("b: file skipped: found a folder that cannot be opened"), "{}", shown(&corpus));
    }
    assert!(load(&Source::new([&file, &closed]), &mut |_| {}).is_err());
}

#[test]
fn an_undated_session_stays_behind_the_one_before_it() {
    let (first, third) = (line("s1", "2026-01-01T10:00:00Z"), line("s3", "2026-01-03T10:00:00Z"));
    let text = first.clone() + &line("s2", "2 Jan 2026") + &third;
    assert_eq!(session_ids(&read(text, "a.jsonl")), ["s1", "s2", "s3"]);
    // None before it: in front of the one after it.
    let text = line("s0", "") + &third + &line("s4", "") + &line("s5", "") + &first;
    assert_eq!(session_ids(&read(text, "a.jsonl")), ["s1", "s0", "s3", "s4", "s5"]);
}

#[test]
fn the_order_in_which_files_are_named_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("a.jsonl", line("a", "") + &line("d", "2026-01-04T10:00:00Z") + &line("same", "") + &line("b", "")),
        ("b.jsonl", line("c", "") + &line("e", "2026-01-03T10:00:00Z") + &line("same", "2026-01-04T10:00:00Z")),
        ("c.jsonl", line("z", "") + &line("y", "")),
    ];
    for (name, text) in &files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let corpus = load(&Source::new(order.map(|at| dir.path().join(files[at].0))), &mut |_| {}).unwrap();
        assert_eq!(session_ids(&corpus), ["z", "y", "c", "e", "a", "d", "same", "b", "same#2"], "{order:?}");
    }
}

#[test]
fn half_a_character_costs_no_more_than_itself() {
    let text = line("a", "").replace("hi", r"cut \ud83d, \\ud83d \ude00\uD83D\uDE00 \ud83d\ud83d\ude00\u00e4")
        + &line("b", "");
    for name in ["a.jsonl", "a.json"] {
        let corpus = read(&text, name);
        assert_eq!(said(&corpus), ["cut \u{fffd}, \\ud83d \u{fffd}😀 \u{fffd}😀ä", "hi"]);
        let s = corpus.summary();
        assert_eq!((s.records_read, s.left_out, s.half_characters), (2, 0, 3));
        let expected = "notice: found 3 halves of characters (lone surrogates), expected whole characters; hint: each \
                        was replaced by U+FFFD";
        assert!(shown(&corpus).contains(expected), "{}", shown(&corpus));
    }
    let broken = line("a", "").replace("hi", r"\ud83d \x");
    let corpus = read(broken, "a.jsonl");
    assert_eq!((corpus.summary().left_out, corpus.summary().half_characters), (1, 0));
}

#[test]
fn one_object_over_several_lines_is_read_however_it_is_broken() {
    let pretty = "{\"user_id\":\"u\",\n \"session_id\": \"s\", \"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    let turns = "{\"user_id\":\"u\",\"session_id\":\"s\",\"messages\":[\n{\"role\":\"user\",\"content\":\"hi\"}\n]}\n";
    for (text, name) in [(pretty, "a.json"), (pretty, "stdin"), (turns, "a.json"), (turns, "stdin")] {
        let corpus = read(text, name);
        assert_eq!((session_ids(&corpus), shown(&corpus)), (vec!["s".to_owned()], String::new()), "{name}");
    }
    let two = pretty.to_owned() + "\n" + &turns.replace("\"s\"", "\"t\"");
    assert_eq!(session_ids(&read(two, "a.json")), ["s", "t"]);
    // A line cut off is one bad line, and swallows none.
    for cut in [
        "{\"user_id\":\"u\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\n",
        "{\"user_id\":\"u\",\"messages\":[\n",
    ] {
        let corpus = read(cut.to_owned() + &line("a", "") + &line("b", ""), "a.json");
        assert_eq!((session_ids(&corpus).join(" "), corpus.summary().left_out), ("a b".to_owned(), 1), "{cut}");
    }
}

#[test]
fn exact_copies_of_sessions_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = line("s", "2026-01-01T10:00:00Z") + &line("t", "");
    let other = text.replace("hi", "else");
    for (name, text) in [("a.jsonl", &text), ("b.jsonl", &text), ("c.jsonl", &other), ("d.jsonl", &other)] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let corpus = load(&Source::new([dir.path()]), &mut |_| {}).unwrap();
    let mut ids = session_ids(&corpus);
    ids.sort_unstable();
    assert_eq!(ids, ["s", "s#2", "t", "t#2"]);
    let s = corpus.summary();
    assert_eq!((s.records, s.records_read, s.left_out, s.sessions, s.messages), (8, 8, 0, 4, 4));
    assert_eq!((s.copied_sessions, s.repeated_sessions), (4, 2));
    let expected = "b.jsonl: notice: found 2 sessions that this user has already, word for word, expected each session \
                    once; hint: each was read once";
    assert!(shown(&corpus).contains(expected), "{}", shown(&corpus));
}

#[test]
fn text_with_carriage_returns_alone_is_read_in_lines() {
    for ends in ["\r", "\r\n", "\n"] {
        let text = "User: a\nmore\nAssistant: b\n\n---\nUser: c".replace('\n', ends);
        for name in ["x.txt", "x"] {
            let corpus = read(&text, name);
            assert_eq!(
                (said(&corpus), session_ids(&corpus)),
                (vec!["a\nmore".into(), "b".into(), "c".into()], vec!["x/1".into(), "x/2".into()]),
                "{ends:?}"
            );
        }
    }
}

#[test]
fn a_list_cut_between_its_elements_is_not_whole() {
    let corpus = read(format!("[{},", line("a", "")), "a.json");
    let s = corpus.summary();
    assert_eq!((s.records, s.records_read, s.left_out), (2, 1, 1));
    assert!(shown(&corpus).contains(": left out: found a JSON list without its end"), "{}", shown(&corpus));
    // Cut inside an element, the loss is counted already.
    let corpus = read(format!("[{},{{\"user_id\":", line("a", "")), "a.json");
    assert_eq!((corpus.summary().records, corpus.summary().left_out), (2, 1));
}

#[test]
fn zeros_after_a_packed_file_are_padding() {
    let gz = |text: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    let padded = [gz(&line("a", "")), gz(&line("b", "")), vec![0; 100_000]].concat();
    let corpus = read(&padded, "a.jsonl.gz");
    assert_eq!((session_ids(&corpus), shown(&corpus)), (vec!["a".into(), "b".into()], String::new()));
    let dirt = [padded, b"dirt".to_vec()].concat();
    let corpus = read(dirt, "a.jsonl.gz");
    assert_eq!((session_ids(&corpus).len(), corpus.summary().left_out), (2, 1));
}

#[test]
fn ids_of_many_digits_are_kept_as_written() {
    let ids = ["18446744073709551617", "18446744073709551618", "123456789012345678901234567890"];
    let text: String = ids.iter().map(|id| line("s", "").replace("\"u\"", id)).collect();
    let corpus = read(text, "a.jsonl");
    assert_eq!(corpus.users().iter().map(|u| u.user_id()).collect::<Vec<_>>(), ids);
}
