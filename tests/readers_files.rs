//! Files, folders, packing, limits and every error that names them.
#![cfg(feature = "readers")]

use std::fs;
use std::io::Write;
use std::path::Path;

use tempfile::TempDir;
use throughline::transcript::read::{Corpus, Format, Limits, Place, ReadError, Source, load, load_stream};

const LINE: &str = r#"{"user_id":"u","session_id":"S","messages":[{"role":"user","content":"hello"}]}"#;

fn line(session: &str) -> String {
    LINE.replace('S', session) + "\n"
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn read(source: &Source) -> Corpus {
    let corpus = load(source, &mut |_| {}).unwrap();
    let s = corpus.summary();
    assert_eq!(s.records, s.records_read + s.left_out);
    corpus
}

fn read_bytes(bytes: &[u8], name: &str, source: &Source) -> Corpus {
    load_stream(Path::new(name), bytes, source, &mut |_| {}).unwrap()
}

fn session_ids(corpus: &Corpus) -> Vec<String> {
    (0..corpus.users().len()).flat_map(|i| corpus.history(i).unwrap().sessions).map(|s| s.session_id).collect()
}

fn shown(corpus: &Corpus) -> String {
    corpus.problems().iter().map(|p| format!("{p}\n")).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn folders_are_walked_in_the_order_of_names_and_all_else_is_told() {
    let dir = folder(&[
        ("b.jsonl", line("b").as_bytes()),
        ("a/z.jsonl", line("a-z").as_bytes()),
        ("a.jsonl.gz", &gz(line("a").as_bytes())),
        ("c.json", br#"{"name": "not a transcript"}"#),
        ("d.docx", b"PK"),
        (".hidden.jsonl", line("hidden").as_bytes()),
        ("e.json", b"[]"),
    ]);
    let corpus = read(&Source::new([dir.path()]));
    assert_eq!(session_ids(&corpus), ["a-z", "a", "b"]);
    let s = corpus.summary();
    assert_eq!((s.files, s.skipped_files, s.records), (4, 3, 3));
    let shown = shown(&corpus);
    for expected in [
        "c.json: file skipped: found JSON without the fields of a transcript",
        "d.docx: file skipped: found an unknown extension",
        ".hidden.jsonl: file skipped: found a hidden name",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
}

#[test]
fn globs_and_files_named_twice() {
    let dir = folder(&[("a.jsonl", line("a").as_bytes()), ("b.jsonl", line("b").as_bytes())]);
    let (glob, again) = (dir.path().join("*.jsonl"), dir.path().join("b.jsonl"));
    let corpus = read(&Source::new([glob, again]));
    assert_eq!(session_ids(&corpus), ["a", "b"]);
    assert!(shown(&corpus).contains("found a file that was already named"));
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_not_followed_in_a_walk() {
    let dir = folder(&[("a.jsonl", line("a").as_bytes())]);
    std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
    let corpus = read(&Source::new([dir.path()]));
    assert_eq!(session_ids(&corpus), ["a"]);
    assert!(shown(&corpus).contains("found a link to a folder"));
}

#[test]
fn what_cannot_be_found_stops_the_read() {
    let dir = folder(&[("x.docx", b"?"), ("odd", b"\x00\x01\x02")]);
    let error = |path: &str, source: &Source| {
        let source = Source { paths: vec![dir.path().join(path)], ..source.clone() };
        load(&source, &mut |_| {}).unwrap_err()
    };
    let plain = Source::default();
    assert!(matches!(load(&plain, &mut |_| {}).unwrap_err(), ReadError::NoInput));
    assert!(matches!(error("none.jsonl", &plain), ReadError::Open { .. }));
    assert!(matches!(error("*.jsonl", &plain), ReadError::NoMatch { .. }));
    assert!(matches!(error("a[", &plain), ReadError::BadGlob { .. }));
    assert!(matches!(error("", &plain), ReadError::NothingFound { files: 2 }));
    assert!(matches!(error("odd", &plain), ReadError::UnknownFormat { .. }));
    let few = Source { limits: Limits { files_max: 1, ..Limits::default() }, format: Some(Format::Text), ..plain };
    assert!(matches!(error("", &few), ReadError::TooManyFiles { limit: 1 }));
    for path in ["none.jsonl", "*.jsonl", "a[", "", "odd"] {
        assert!(error(path, &Source::default()).to_string().contains("hint: "), "{path}");
    }
}

#[test]
fn packed_files_are_told_by_their_first_bytes() {
    let text = [line("a"), line("b")].concat();
    let two_members = [gz(line("a").as_bytes()), gz(line("b").as_bytes())].concat();
    let zst = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (name, bytes) in [
        ("a.jsonl.gz", gz(text.as_bytes())),
        ("a.jsonl", gz(text.as_bytes())),
        ("a.jsonl.gz", text.clone().into_bytes()),
        ("a.jsonl.gz", two_members),
        ("a.jsonl.gz", zst.clone()),
        ("a.jsonl.zst", zst),
    ] {
        assert_eq!(session_ids(&read_bytes(&bytes, name, &Source::default())), ["a", "b"], "{name}");
    }
}

#[test]
fn what_is_read_before_a_packed_file_breaks_off_is_kept() {
    // Lines that do not pack to nothing, so that the cut falls behind some of them.
    let mut x = 1_u64;
    let mut word = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        format!("{x:x}")
    };
    let text: String = (0..20_000).map(|_| line(&word())).collect();
    let packed = gz(text.as_bytes());
    let corpus = read_bytes(&packed[..packed.len() / 2], "a.jsonl.gz", &Source::default());
    let s = corpus.summary();
    assert!((5_000..15_000).contains(&s.records_read), "{s:?}");
    assert_eq!((s.left_out, s.records), (1, s.records_read + 1));
    assert!(shown(&corpus).contains("left out: found an unreadable rest of the file"));
}

#[test]
fn a_short_packed_file_that_breaks_off_is_told() {
    let packed = gz((line("a") + &line("b")).as_bytes());
    let corpus = read_bytes(&packed[..packed.len() - 9], "a.jsonl.gz", &Source::default());
    assert!(shown(&corpus).contains("left out: found an unreadable rest of the file"));
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let text = ["\u{feff}", &line("a")].concat();
    let corpus = read_bytes(text.as_bytes(), "a.jsonl", &Source::default());
    assert_eq!((session_ids(&corpus), shown(&corpus)), (vec!["a".to_owned()], String::new()));
    let packed = read_bytes(&gz(text.as_bytes()), "a", &Source::default());
    assert_eq!(session_ids(&packed), ["a"]);
}

#[test]
fn foreign_files_are_named() {
    let twice = gz(&gz(line("a").as_bytes()));
    for (bytes, found) in
        [(&b"PK\x03\x04...."[..], "a zip archive"), (b"\xff\xfeU\0s\0", "UTF-16 text"), (&twice, "a file packed twice")]
    {
        let corpus = read_bytes(bytes, "a.jsonl", &Source::default());
        assert_eq!(corpus.summary().skipped_files, 1);
        assert!(shown(&corpus).contains(found), "{}", shown(&corpus));
    }
}

#[test]
fn a_bad_record_is_one_problem_and_the_rest_is_read() {
    let bad: [(&[u8], &str); 12] = [
        (b"{\"messages\": [", "JSON that ends in the middle (line 1, column 15 of the record)"),
        (b"{\"messages\": ]}", "invalid JSON (line 1, column 14 of the record)"),
        (b"\"\xff\"", "invalid UTF-8 at byte 1 of the record"),
        (b"[1]", "found a list, expected an object with `messages`"),
        (b"7", "found a number, expected an object"),
        (b"{}", "found no `messages`"),
        (b"{\"messages\": \"SECRET\"}", "found a string in `messages`"),
        (b"{\"messages\": [\"SECRET\"]}", "found a string in `messages[0]`"),
        (b"{\"messages\": [{\"content\": \"SECRET\"}]}", "found no role in `messages[0]`"),
        (b"{\"messages\": [{\"role\": \"SECRET\"}]}", "found an unknown role in `messages[0].role`"),
        (b"{\"messages\": [{\"role\": \"user\", \"content\": 7}]}", "found a number in `messages[0].content`"),
        (b"{\"session_id\": [], \"messages\": []}", "found a list in `session_id`"),
    ];
    for (bytes, expected) in bad {
        let text = [line("a").as_bytes(), bytes, b"\r\n", line("b").as_bytes()].concat();
        let corpus = read_bytes(&text, "a.jsonl", &Source::default());
        assert_eq!(session_ids(&corpus), ["a", "b"]);
        assert_eq!((corpus.summary().records, corpus.summary().left_out), (3, 1));
        let problem = &corpus.problems()[0];
        assert_eq!((problem.place, corpus.problems().len()), (Place::Line(2), 1));
        assert!(problem.to_string().contains(expected), "{expected} in {problem}");
        assert!(!problem.to_string().contains("SECRET"));
    }
}

#[test]
fn a_bad_element_of_a_list_is_one_problem_and_the_rest_is_read() {
    let text = [b"[", line("a").as_bytes(), b",{\"x\": \xff \"]\"},", line("b").as_bytes(), b"]"].concat();
    let corpus = read_bytes(&text, "a.json", &Source::default());
    assert_eq!(session_ids(&corpus), ["a", "b"]);
    assert!(shown(&corpus).contains("a.json: record 2 at byte "), "{}", shown(&corpus));
    let whole = [b"[", line("a").as_bytes(), b"]"].concat();
    assert_eq!(shown(&read_bytes(&whole, "a.json", &Source::default())), "");
    let cut = [b"[", line("a").as_bytes(), b","].concat();
    let corpus = read_bytes(&cut, "a.json", &Source::default());
    assert!(shown(&corpus).contains("a JSON list without its end"));
}

#[test]
fn text_with_bad_bytes_loses_only_its_session() {
    let text = b"User: a\n---\nUser: b\n\xff\nmore\n---\nUser: c\n";
    let corpus = read_bytes(text, "a.txt", &Source::default());
    assert_eq!(session_ids(&corpus), ["a/1", "a/3"]);
    assert!(shown(&corpus).contains("a.txt:3: left out: found invalid UTF-8 at byte 0"), "{}", shown(&corpus));
}

#[test]
fn progress_is_told_by_file_and_by_the_thousand() {
    let text: String = (0..2_500).map(|i| line(&i.to_string())).collect();
    let dir = folder(&[("a.jsonl", text.as_bytes()), ("b.jsonl", text.as_bytes())]);
    let mut seen = Vec::new();
    load(&Source::new([dir.path()]), &mut |p| {
        assert_eq!((p.files_total, p.bytes_total), (2, Some(2 * text.len() as u64)));
        assert!(p.bytes_read <= 2 * text.len() as u64);
        seen.push((p.files_done, p.records));
    })
    .unwrap();
    assert_eq!(seen, [(0, 0), (0, 1000), (0, 2000), (1, 2500), (1, 3000), (1, 4000), (1, 5000)]);
}

#[test]
fn people_are_named_after_files_and_never_mixed_up() {
    let one = br#"{"messages":[{"role":"user","content":"hello"}]}"#;
    let lone = br#"{"id":"same","conversations":[{"from":"human","value":"hello"}]}"#;
    let ids = |files: &[(&str, &[u8])]| {
        let dir = folder(files);
        let corpus = read(&Source::new([dir.path()]));
        let root = format!("{}/", dir.path().display());
        corpus.users().iter().map(|u| u.user_id().replace(&root, "")).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[("a/chat.jsonl", one), ("b/note.jsonl", one)]), ["chat", "note"]);
    assert_eq!(ids(&[("a/chat.jsonl", one), ("b/chat.jsonl", one)]), ["a/chat", "b/chat"]);
    assert_eq!(ids(&[("a/chat.jsonl", one), ("a/chat.old.jsonl", one)]), ["chat", "chat.old"]);
    assert_eq!(ids(&[("a/chat.jsonl", one), ("a/chat.json.gz", one)]), ["chat"]);
    assert_eq!(ids(&[("a/conversations.json", one), ("b/conversations.json", one)]), ["a", "b"]);
    assert_eq!(ids(&[("x/a/conversations.json", one), ("y/a/conversations.json", one)]), ["x/a", "y/a"]);
    assert_eq!(ids(&[("a.json", lone), ("b.json", lone)]), ["same", "same#2"]);
}

/// What the next test runs in a process of its own, for its standard input.
#[test]
#[ignore = "reads standard input: run by the test `standard_input`"]
fn standard_input_child() {
    let corpus = read(&Source::new(["-", "-"]));
    assert_eq!(session_ids(&corpus), ["a", "stdin/2"]);
    assert_eq!(corpus.users()[1].user_id(), "stdin");
}

#[test]
fn standard_input() {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "standard_input_child", "--ignored"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let nameless = r#"{"messages":[{"role":"user","content":"hello"}]}"#;
    let text = gz((line("a") + nameless).as_bytes());
    child.stdin.take().unwrap().write_all(&text).unwrap();
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}
