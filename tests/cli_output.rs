//! What `throughline score` writes where: nothing is destroyed that stands there, nothing fails late.

#![cfg(all(feature = "cli", unix))]

mod cli_support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use cli_support::{MODEL, code, folder, score, sessions, str, text, throughline, write};

/// The summary of machine output is its last line.
fn is_whole(path: &Path) -> bool {
    fs::read_to_string(path).unwrap().lines().last().is_some_and(|line| line.contains("\"type\":\"summary\""))
}

#[test]
fn a_pipe_is_written_into_and_stays_a_pipe() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened for reading and writing, it blocks nobody; what is written fits into the pipe.
    let script = "exec 3<>\"$0\"; \"$@\" >/dev/null; timeout 5 head -n 1 <&3";
    let mut command = Command::new("sh");
    command.args(["-c", script, str(&pipe), env!("CARGO_BIN_EXE_throughline"), "score", "--model", MODEL]);
    let output = command.args([str(&chats), "-q", "-o", str(&pipe)]).output().unwrap();
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "{output:?}");
    assert!(text(&output.stdout).starts_with("{\"type\":\"run\""), "{output:?}");
}

#[test]
fn a_link_is_followed_and_stays() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    fs::create_dir(folder.path().join("real")).unwrap();
    let there = write(&folder, "real/there.jsonl", "as it was");
    let links = ["to-there", "to-nothing"].map(|name| folder.path().join(name));
    symlink("real/there.jsonl", &links[0]).unwrap();
    symlink("real/new.jsonl", &links[1]).unwrap();
    for (link, to) in links.iter().zip([there, folder.path().join("real/new.jsonl")]) {
        assert_eq!(code(&score(&[str(&chats), "-o", str(link)])), 0);
        assert!(fs::symlink_metadata(link).unwrap().is_symlink() && is_whole(&to), "{}", to.display());
    }
}

#[test]
fn what_is_read_is_not_written_over() {
    let folder = folder();
    let records = sessions().concat();
    let chats = write(&folder, "chats.jsonl", &records);
    let link = folder.path().join("link.html");
    symlink("chats.jsonl", &link).unwrap();
    let glob = folder.path().join("*.jsonl");
    for input in [&*chats, folder.path(), &glob] {
        for output in [["-o", str(&chats)], ["--report", str(&link)]] {
            let refused = score(&[&[str(input)], &output[..]].concat());
            assert_eq!(code(&refused), 2, "{output:?}");
            assert!(text(&refused.stderr).contains("is read, and would be written over; hint"), "{refused:?}");
            assert_eq!(fs::read_to_string(&chats).unwrap(), records);
        }
    }
}

#[test]
fn two_outputs_are_two_files() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let same = folder.path().join("same");
    let there_and_back = folder.path().join("../").join(folder.path().file_name().unwrap()).join("same");
    let output = score(&[str(&chats), "-o", str(&same), "--report", str(&there_and_back)]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("--output and --report are both"), "{output:?}");
    assert!(!same.exists());
}

#[test]
fn what_cannot_be_written_is_told_before_anything_is_read() {
    let folder = folder();
    // Reading would tell of the broken record, and of no model.
    let chats = write(&folder, "chats.jsonl", "{\"oops\n");
    for (option, path) in [("--report", "/nonexistent/r.html"), ("-o", "/nonexistent/o"), ("-o", str(folder.path()))] {
        let output = throughline().args(["score", str(&chats), "--model", "nowhere", option, path]).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(code(&output), 2);
        let folder = path.trim_end_matches("/r.html").trim_end_matches("/o");
        assert!(error.contains(folder) && error.contains("hint") && error.lines().count() == 1, "{error}");
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["chats.jsonl"]);
}

/// A file that is being written must not be met by the walk through the folder.
#[test]
fn outputs_can_stand_in_the_folder_that_is_read() {
    let folder = folder();
    write(&folder, "chats.jsonl", &sessions().concat());
    let page = folder.path().join("scores.out");
    assert_eq!(code(&score(&[str(folder.path()), "--strict", "-o", str(&page)])), 0);
    assert!(is_whole(&page));
}

#[test]
fn a_closed_standard_output_loses_no_report() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let (page, lines) = (folder.path().join("r.html"), folder.path().join("o.jsonl"));
    for (outputs, expected) in [(["-o", str(&lines)], 0), (["-o", "-"], 2)] {
        let mut command = throughline();
        command.args(["score", "--model", MODEL, str(&chats), "-q", "--report", str(&page)]).args(outputs);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), text(&output.stderr)), (expected, String::new()), "{outputs:?}");
        assert!(fs::read_to_string(&page).unwrap().trim_end().ends_with("</html>"));
        fs::remove_file(&page).unwrap();
    }
    assert!(is_whole(&lines));
}
