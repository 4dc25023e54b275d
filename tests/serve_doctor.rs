//! `doctor` on folders and keys: what keeps `serve` from starting is told, and nothing of the looking stays.

#![cfg(feature = "server")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serve_support::cli_support::{MODEL, code, folder, text, throughline, write};
use serve_support::{Server, conversation, turn};

mod serve_support;

/// `doctor` on a folder: the exit code, and what it found.
fn doctor(mut by: Command, at: &Path, more: &[&str]) -> (i32, String) {
    by.args(["doctor", "--model", MODEL, "--bind", "127.0.0.1:0", "--folder"]);
    let output = by.arg(at).args(more).output().unwrap();
    (code(&output), text(&output.stdout) + &text(&output.stderr))
}

/// The line of what failed.
fn failure<'a>(told: &'a str, what: &str) -> &'a str {
    let begins = format!("FAIL  {what} ");
    told.lines().find(|line| line.starts_with(&begins)).unwrap_or_else(|| panic!("no {begins:?}: {told}"))
}

/// Every file with what is in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn where_all_is_well_nothing_is_left_and_a_server_starts() {
    let home = folder();
    let (above, key) = (home.path().join("new"), write(&home, "a-key", &"5a".repeat(32)));
    let data = above.join("data");
    let with_key = ["--key-file", key.to_str().unwrap()];
    for (more, lines) in [(&[][..], &["ok    folder", "note  store"][..]), (&with_key, &["ok    key", "note  store"])] {
        let (status, told) = doctor(throughline(), &data, more);
        assert!(status == 0 && lines.iter().all(|line| told.contains(line)), "{told}");
        assert!(!above.exists(), "{told}");
    }
    let server = Server::start(&data, &with_key);
    server.post("/v1/turns", &turn("ada", "s", &conversation(1)[0])).ok();
    assert_eq!(server.stop().0, Some(0));
    let before: Vec<String> = files(&data).into_keys().collect();
    let (status, told) = doctor(throughline(), &data, &with_key);
    assert!(status == 0 && told.contains("ok    store") && told.contains("users 1, messages 2"), "{told}");
    assert_eq!(files(&data).into_keys().collect::<Vec<_>>(), before);
    Server::start(&data, &with_key);
}

#[test]
fn a_folder_or_a_key_that_a_server_cannot_have_is_told() {
    let home = folder();
    let (data, file) = (home.path().join("data"), write(&home, "a-file", "text"));
    let short = write(&home, "short", "5a5a");
    let (short, below) = (short.to_str().unwrap(), file.join("below"));
    for (at, more, what, named) in [
        (&file, &[][..], "folder", file.to_str().unwrap()),
        (&below, &[], "folder", below.to_str().unwrap()),
        (&data, &["--key-file", "/nowhere/key"], "key", "/nowhere/key"),
        (&data, &["--key-file", short], "key", short),
    ] {
        let (status, told) = doctor(throughline(), at, more);
        let line = failure(&told, what);
        assert!(status == 2 && line.contains(named) && line.contains("hint"), "{told}");
        let refused = Server::try_start(at, more).err().expect("what the doctor fails is refused");
        assert!(refused.contains(named), "{refused}");
        assert!(!data.exists(), "{told}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_folder_that_a_server_has_is_told_and_so_is_what_is_in_it() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    server.post("/v1/turns", &turn("ada", "s", &conversation(1)[0])).ok();
    let before = files(home.path());
    let (status, told) = doctor(throughline(), home.path(), &[]);
    assert!(status == 2 && failure(&told, "folder").contains("another server has"), "{told}");
    assert!(told.contains("ok    store") && told.contains("users 1, messages 2"), "{told}");
    assert!(before.keys().eq(files(home.path()).keys()), "nothing is made, and nothing of the server's is gone");
    assert!(Server::try_start(home.path(), &[]).err().unwrap().contains("another server has"));
    assert_eq!(server.get("/v1/users/ada").status, 200);
}

#[cfg(unix)]
mod permissions {
    use super::*;

    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    /// The binary as one whom permissions bind: root without what lets it pass them by. Where that cannot be had, that is said.
    fn bound() -> Option<Command> {
        let closed = folder();
        set_permissions(closed.path(), Permissions::from_mode(0o500)).unwrap();
        if std::fs::write(closed.path().join("probe"), "").is_err() {
            return Some(throughline());
        }
        let mut bound = Command::new("setpriv");
        bound.args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]);
        if !bound.arg("true").status().is_ok_and(|done| done.success()) {
            eprintln!("SKIPPED: this user may write anywhere; hint: run as another than root, or install setpriv");
            return None;
        }
        let plain = throughline();
        let mut command = Command::new(bound.get_program());
        command.args(bound.get_args().filter(|argument| *argument != "true")).arg(plain.get_program());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Some(command)
    }

    #[test]
    fn a_folder_that_is_closed_to_this_user_is_told_and_stays_as_it_is() {
        let home = folder();
        let key = write(&home, "a-key", &"5a".repeat(32));
        let with_key = ["--key-file", key.to_str().unwrap()];
        let (live, old) = (home.path().join("live"), home.path().join("old"));
        for data in [&live, &old] {
            assert_eq!(Server::start(data, &with_key).stop().0, Some(0));
        }
        // A lock that an earlier server left, and nothing else.
        std::fs::remove_file(old.join("throughline.sqlite")).unwrap();
        let empty = home.path().join("empty");
        create_dir(&empty).unwrap();
        let below = empty.join("below");
        for (at, closed, mode) in [
            (&live, &live, 0o000),
            (&live, &live, 0o600),
            (&live, &live, 0o500),
            (&old, &old, 0o500),
            (&empty, &empty, 0o500),
            (&empty, &empty, 0o600),
            (&below, &empty, 0o500),
        ] {
            let Some(by) = bound() else { return };
            let before = files(closed);
            set_permissions(closed, Permissions::from_mode(mode)).unwrap();
            let (status, told) = doctor(by, at, &with_key);
            set_permissions(closed, Permissions::from_mode(0o700)).unwrap();
            let line = failure(&told, "folder");
            assert!(status == 2 && line.contains(at.to_str().unwrap()) && line.contains("hint"), "{mode:o} {told}");
            assert!(!told.contains("`serve` makes one"), "{mode:o} {told}");
            assert_eq!(files(closed), before, "{mode:o} {told}");
        }
    }
}
