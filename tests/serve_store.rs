//! What becomes of what `serve` keeps: copies put back, older forms brought forward, old things dropped, holds before the first turn, alarms
//! that somebody looked at.

#![cfg(feature = "server")]

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use serve_support::cli_support::{MODEL, code, folder, text, throughline, write};
use serve_support::{EAGER, Server, conversation, said, turn};

#[cfg(unix)]
mod disk_support;
mod serve_support;

const FILE: &str = "throughline.sqlite";

/// `store` and these arguments: the exit code, and everything that was said.
fn store(arguments: &[&str], at: &Path, key: &Path) -> (i32, String) {
    let output =
        throughline().arg("store").args(arguments).arg("--folder").arg(at).arg("--key-file").arg(key).output().unwrap();
    (code(&output), text(&output.stdout) + &text(&output.stderr))
}

#[test]
#[cfg(unix)]
fn on_a_full_disk_turns_are_refused_and_none_is_lost() {
    let Some(disk) = disk_support::Disk::mount("1m") else { return };
    let server = Server::start(disk.path(), &[]);
    // It is told before it comes to that.
    assert!(server.get("/readyz").problem(507).contains("bytes are free"));
    let ask = |user: &str| server.post("/v1/turns", &turn(user, "s", &[said("user", &"the garden ".repeat(360))]));
    let mut kept = 0;
    let refused = loop {
        let reply = ask("ada");
        if reply.status != 200 {
            break reply;
        }
        kept += 1;
        assert!(kept < 1_000, "a disk that is full some day");
    };
    assert!(kept > 10 && refused.problem(507).contains("full"), "{kept} {refused:?}");
    ask("bo").problem(507);
    let full = server.get("/readyz");
    assert!(full.problem(507).contains("free some space"), "{full:?}");
    assert!(full.json()["value"].as_u64() < full.json()["limit"].as_u64(), "{full:?}");
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], json!(kept), "what was kept is read");
    assert!(disk.remount("size=8m"));
    assert_eq!(ask("ada").ok()["messages_kept"], json!(kept + 1), "and it goes on where it was");
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
#[cfg(unix)]
fn a_database_that_is_removed_under_the_server_keeps_nothing_and_says_so() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let turn = turn("ada", "s", &[said("user", "hello")]);
    server.post("/v1/turns", &turn).ok();
    let (file, aside) = (home.path().join("throughline.sqlite"), home.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    for _ in 0..2 {
        server.post("/v1/turns", &turn).problem(503);
        server.get("/readyz").problem(503);
        // Nor where another stands in its place.
        std::fs::copy(&aside, &file).unwrap();
    }
    server.until_logged("was removed, or another put in its place");
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(server.post("/v1/turns", &turn).ok()["messages_kept"], json!(2), "it is the one that was opened");
    // Its log of writes has what is not written back yet.
    let (log, aside) = (home.path().join("throughline.sqlite-wal"), home.path().join("aside"));
    std::fs::rename(&log, &aside).unwrap();
    server.post("/v1/turns", &turn).problem(503);
    std::fs::rename(&aside, &log).unwrap();
    assert_eq!(server.post("/v1/turns", &turn).ok()["messages_kept"], json!(3));
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_start_that_is_refused_leaves_nothing_behind() {
    let home = folder();
    let data = home.path().join("data");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for refused in [["--webhooks", "/nowhere/webhooks.toml"], ["--policy", "/nowhere/policy.toml"], ["--bind", &taken]]
    {
        let log = match refused[0] {
            "--bind" => {
                let serve = ["serve", "--model", MODEL, "--folder", data.to_str().unwrap(), "--bind", &taken];
                let output = throughline().args(serve).output().unwrap();
                assert_eq!(code(&output), 2, "{output:?}");
                text(&output.stderr)
            }
            _ => Server::try_start(&data, &refused).err().expect("it is refused"),
        };
        assert!(log.contains("hint") && !log.contains("ready to serve"), "{log}");
        assert!(!data.exists(), "{refused:?} left {:?}", data.read_dir().unwrap().collect::<Vec<_>>());
    }
}

#[test]
fn a_copy_is_put_back_once_it_is_known_to_be_whole() {
    let (home, other) = (folder(), folder());
    let server = Server::start(home.path(), &[]);
    let turns = conversation(4);
    for messages in &turns[..3] {
        server.post("/v1/turns", &turn("ada", "s", messages)).ok();
    }
    let before = server.get("/v1/users/ada").ok();
    let (key, copy) = (home.path().join("key"), home.path().join("copy"));
    let (status, told) = store(&["backup", copy.to_str().unwrap()], home.path(), &key);
    assert_eq!(status, 0, "{told}");
    let restore = |from: &Path, to: &Path, key: &Path| {
        let (status, told) = store(&["restore", from.to_str().unwrap()], to, key);
        assert!(status == 0 || told.contains("hint"), "{told}");
        (status, told)
    };
    // A folder that has one, or a server, is left alone.
    let (status, told) = restore(&copy, home.path(), &key);
    assert!(status == 2 && told.contains("another server"), "{told}");
    assert_eq!(server.stop().0, Some(0));
    let (status, told) = restore(&copy, home.path(), &key);
    assert!(status == 2 && told.contains("is there"), "{told}");
    // What is not whole, of another key, or something else is not put in place.
    let (above, there) = (other.path().join("new"), other.path().join("there"));
    let to = above.join("data");
    std::fs::create_dir(&there).unwrap();
    let (damaged, broken_off) = (other.path().join("damaged"), other.path().join("broken-off"));
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    std::fs::write(&broken_off, &bytes[..middle]).unwrap();
    bytes[middle..middle + 4_096].fill(0xA5);
    std::fs::write(&damaged, &bytes).unwrap();
    std::fs::write(other.path().join("empty"), "").unwrap();
    std::fs::write(other.path().join("text"), "no database ".repeat(1_000)).unwrap();
    std::fs::write(other.path().join("key"), "5a".repeat(32)).unwrap();
    for (from, key, part) in [
        (&damaged, &key, "damaged"),
        (&broken_off, &key, "damaged"),
        (&other.path().join("empty"), &key, "no database of throughline"),
        (&other.path().join("text"), &key, "damaged"),
        (&other.path().join("nowhere"), &key, "nowhere"),
        (&copy, &other.path().join("key"), "another key"),
        (&copy, &other.path().join("no-key"), "no-key"),
    ] {
        for to in [&to, &there] {
            let (status, told) = restore(from, to, key);
            assert!(status == 2 && told.contains(part), "{part}: {told}");
        }
        assert!(!above.exists(), "{part}: what was not there is not there");
        assert_eq!(there.read_dir().unwrap().count(), 0, "{part}: and what was there is as it was");
    }
    let (status, told) = restore(&copy, &to, &key);
    assert!(status == 0 && told.contains("users 1, messages 6"), "{told}");
    let server = Server::start(&to, &["--key-file", key.to_str().unwrap()]);
    assert_eq!(server.get("/v1/users/ada").ok(), before);
    assert_eq!(server.post("/v1/turns", &turn("ada", "s", &turns[3])).ok()["messages_kept"], json!(8));
}

#[test]
fn whoever_follows_alarms_misses_none_after_a_copy_was_put_back() {
    let (home, other) = (folder(), folder());
    let policy = write(&home, "eager.toml", EAGER);
    let (data, policy) = (home.path().join("data"), ["--policy", policy.to_str().unwrap()]);
    let alarms = |server: &Server, after: i64| -> Vec<(i64, String)> {
        let list = server.get(&format!("/v1/alarms?after={after}")).ok()["alarms"].as_array().unwrap().clone();
        let told = |alarm: &Value| (alarm["id"].as_i64().unwrap(), alarm["user_id"].as_str().unwrap().to_owned());
        list.iter().map(told).collect()
    };
    let raise = |server: &Server, user: &str| {
        let raised =
            |messages: &Vec<Value>| server.post("/v1/turns", &turn(user, "s", messages)).ok()["alarm"].is_object();
        assert!(conversation(8).iter().any(raised), "no alarm of {user}");
    };
    let server = Server::start(&data, &policy);
    raise(&server, "ada");
    let copied = alarms(&server, 0);
    let (key, copy) = (data.join("key"), home.path().join("copy"));
    let (status, told) = store(&["backup", copy.to_str().unwrap()], &data, &key);
    assert_eq!(status, 0, "{told}");
    raise(&server, "lost");
    let mut seen = alarms(&server, 0).last().unwrap().0;
    assert!(seen > copied.last().unwrap().0);
    assert_eq!(server.stop().0, Some(0));
    for user in ["first", "second"] {
        let to = other.path().join(user);
        let (status, told) = store(&["restore", copy.to_str().unwrap()], &to, &key);
        assert!(status == 0 && told.contains("new alarms have numbers that none had"), "{told}");
        let server = Server::start(&to, &[&policy[..], &["--key-file", key.to_str().unwrap()]].concat());
        assert_eq!(alarms(&server, 0), copied, "what was raised keeps its number");
        raise(&server, user);
        let news = alarms(&server, seen);
        assert!(!news.is_empty() && news.iter().all(|(_, of)| of == user), "after {seen}: {news:?}");
        seen = news.last().unwrap().0;
        assert_eq!(server.stop().0, Some(0));
    }
}

/// `doctor` on a folder: the exit code, and what it found.
fn doctor(at: &Path, more: &[&str]) -> (i32, String) {
    let arguments = ["doctor", "--model", MODEL, "--bind", "127.0.0.1:0", "--folder"];
    let output = throughline().args(arguments).arg(at).args(more).output().unwrap();
    (code(&output), text(&output.stdout))
}

#[test]
fn an_older_database_is_brought_forward_by_the_server_that_has_the_folder_and_nobody_else() {
    let home = folder();
    let (database, copy) = (home.path().join(FILE), home.path().join("copy"));
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store/form-1.sqlite"), &database).unwrap();
    let key = write(&home, "key-of-form-1", &"5a".repeat(32));
    let with_key = ["--key-file", key.to_str().unwrap()];
    let form = |file: &Path| -> i64 {
        let connection = Connection::open(file).unwrap();
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    let (status, told) = store(&["check"], home.path(), &key);
    assert!(status == 2 && told.contains("older form 1, this build's is ") && told.contains("backup first"), "{told}");
    let (status, told) = store(&["backup", copy.to_str().unwrap()], home.path(), &key);
    assert!(status == 0 && told.contains("older form 1"), "{told}");
    let (status, told) = doctor(home.path(), &with_key);
    assert!(status == 0 && told.contains("note  store") && told.contains("older form 1, this build's is "), "{told}");
    // An older server may have it open.
    let lock = File::create(home.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let refused = Server::try_start(home.path(), &with_key).err().unwrap();
    assert!(refused.contains("another server"), "{refused}");
    assert_eq!((form(&database), form(&copy)), (1, 1));
    drop(lock);
    let server = Server::start(home.path(), &with_key);
    server.until_logged("from=1 to=");
    assert!(form(&database) > 1);
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], json!(5));
    assert_eq!(server.stop().0, Some(0));
    let again = Server::start(home.path(), &with_key);
    assert!(!again.log().contains("from=1"), "{}", again.log());
    let (status, told) = store(&["check"], home.path(), &key);
    assert!(status == 0 && told.contains("users 2, messages 6"), "{told}");
}

#[test]
fn whoever_only_looks_makes_no_database() {
    let home = folder();
    let key = write(&home, "a-key", &"5a".repeat(32));
    for arguments in [&["check"][..], &["backup", "copy"]] {
        let (status, told) = store(arguments, home.path(), &key);
        assert!(status == 2 && told.contains(FILE) && told.contains("hint"), "{told}");
    }
    assert!(!home.path().join(FILE).exists());
}

#[cfg(feature = "outbound")]
#[test]
fn the_doctor_notes_an_upstream_that_gives_no_replies() {
    use std::io::Write;

    use serve_support::other::Other;

    let home = folder();
    let answers = |status: &'static str| {
        Other::start(move |_, socket| {
            write!(socket, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        })
    };
    let (well, unknown, refused) = (answers("200 OK"), answers("401 Unauthorized"), answers("403 Forbidden"));
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (upstream, status, lines) in [
        (well.url.as_str(), 0, ["ok    settings", "ok    upstream", "status 200"]),
        (&unknown.url, 0, ["ok    settings", "note  upstream", "status 401: there is no key"]),
        (&refused.url, 0, ["ok    settings", "note  upstream", "status 403: there is no key"]),
        (&format!("http://{closed}/v1"), 0, ["ok    settings", "note  upstream", "it does not answer"]),
        ("ftp://127.0.0.1/v1", 2, ["FAIL  settings", "--upstream", "hint"]),
    ] {
        let (found, told) = doctor(home.path(), &["--upstream", upstream]);
        assert!(found == status && lines.iter().all(|line| told.contains(line)), "{upstream}: {told}");
    }
}

#[test]
fn what_nobody_looked_at_is_not_acknowledged() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let server = Server::start(home.path(), &["--policy", policy.to_str().unwrap()]);
    for messages in conversation(8) {
        server.post("/v1/turns", &turn("ada", "s", &messages)).ok();
    }
    let open = || server.get("/v1/alarms?open=true").ok()["alarms"].as_array().unwrap().clone();
    let alarms = open();
    let id = alarms[0]["id"].as_i64().unwrap();
    let acknowledge =
        |up_to: Value| server.post("/v1/users/ada/acknowledge", &json!({"by": "rev", "note": "", "up_to": up_to}));
    assert!(acknowledge(json!(0)).problem(422).contains("up_to is 0"));
    acknowledge(json!("1")).problem(422);
    assert_eq!(acknowledge(json!(id + 100)).ok()["acknowledged"], json!(0));
    assert_eq!(open(), alarms, "that is no alarm of theirs");
    assert_eq!(acknowledge(json!(id)).ok()["acknowledged"], json!(1));
    let left = open();
    // What came after it nobody saw: it is an alarm of its own, and the only one that is new.
    assert_eq!((&left[..alarms.len() - 1], left.len()), (&alarms[1..], alarms.len()));
    assert!(left.last().unwrap()["id"].as_i64() > alarms.last().unwrap()["id"].as_i64(), "{left:?}");
    assert_eq!(acknowledge(json!(id)).ok()["acknowledged"], json!(0));
    assert_eq!(open(), left);
    let seen = "SELECT seen_messages, messages FROM users";
    let connection = Connection::open(home.path().join(FILE)).unwrap();
    let seen: (i64, i64) = connection.query_row(seen, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(json!(seen.0 - 1), alarms[0]["message_index"]);
    assert!(seen.0 < seen.1, "a test that can fail: {seen:?}");
}

/// The lines of a stream of alarms that begins with the next one.
fn stream(server: &Server) -> Lines<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    // Well before it would look again by itself.
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    stream.write_all(b"GET /v1/alarms/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.unwrap().is_empty()), "no head");
    lines
}

#[test]
fn what_came_while_a_person_looked_is_raised_with_the_acknowledgement() {
    for more in [&[][..], &["--no-content"]] {
        let home = folder();
        let policy = write(&home, "eager.toml", EAGER);
        let arguments = [&["--policy", policy.to_str().unwrap(), "--kernel", "portable"], more].concat();
        let server = Server::start(home.path(), &arguments);
        let landlady = vec![said("user", "My landlady Ottoline lied about me again."), said("assistant", "Again?")];
        let talk = [landlady, conversation(6).concat()].concat();
        // Until a turn raises none, since one of its level waits.
        let mut before = Vec::new();
        let after = loop {
            let told = server.post("/v1/turns", &turn("ada", &format!("s{}", before.len()), &talk)).ok();
            match told["alarm"]["id"].clone() {
                Value::Null => break told,
                id => before.push(id),
            }
            assert!(before.len() < 5, "{before:?}");
        };
        let last = before.last().unwrap();
        let mut events = stream(&server);
        let acknowledge = |up_to: &Value| {
            let seen = json!({"by": "rev", "note": "", "up_to": up_to});
            server.post("/v1/users/ada/acknowledge", &seen).ok()["acknowledged"].clone()
        };
        let open = || server.get("/v1/alarms?open=true").ok()["alarms"].clone();
        assert_eq!(acknowledge(last), json!(before.len()));
        let waiting = open();
        let raised = &waiting[0];
        assert!(waiting.as_array().unwrap().len() == 1 && raised["id"].as_i64() > last.as_i64(), "{waiting}");
        let place = json!([raised["level"], raised["session_index"], raised["message_index"]]);
        assert_eq!(place, json!(["review", before.len(), talk.len() - 1]), "at the last message: {raised}");
        // The record is that of a turn's alarm, of the whole history.
        let found = |of: &Value| {
            let facts = |finding: &Value| json!([finding["level"], finding["arc"], finding["messages"]]);
            let findings = of["findings"].as_array().unwrap().iter().map(facts).collect::<Vec<_>>();
            json!([of["level"], findings, of["judged_by"], of.get("targets")])
        };
        assert_eq!(found(&raised["verdict"]), found(&after));
        // Whom they are toward is told as the other route tells it, where text is kept.
        let people = server.get("/v1/users/ada/targets").ok()["targets"].clone();
        let label = raised.get("targets").map(|targets| &targets[0]["label"]);
        assert_eq!(label, more.is_empty().then_some(&people[0]["label"]), "{raised}");
        assert_eq!(people[0]["label"].is_string(), more.is_empty(), "a test that can fail: {people}");
        let event = events.find(|line| line.as_ref().unwrap().starts_with("id: ")).unwrap().unwrap();
        assert_eq!(event, format!("id: {}", raised["id"]));
        server.until_counted("throughline_open_alarms", 1.0);
        server.until_counted("throughline_alarms_total{level=\"review\"}", (before.len() + 1) as f64);
        assert_eq!((acknowledge(last), open()), (json!(0), waiting.clone()), "nobody is called twice");
        assert_eq!((acknowledge(&raised["id"]), open()), (json!(1), json!([])), "and everything is seen");
        assert_eq!(server.get("/v1/users/ada").ok()["since_seen"]["level"], json!("none"));
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn what_came_since_a_person_looked_stands_beside_the_state() {
    let home = folder();
    let review = "score_min = 0.02\nmitigations = [\"review-before-restoring\"]";
    let policy = write(&home, "eager.toml", &EAGER.replace("score_min = 0.02", review));
    let arguments = ["--policy", policy.to_str().unwrap(), "--kernel", "portable"];
    let server = Server::start(home.path(), &arguments);
    let talk = conversation(6).concat();
    let first = server.post("/v1/turns", &turn("ada", "s", &talk)).ok();
    let recommended = json!({"level": "review", "mitigations": ["review-before-restoring"]});
    let state = |answer: &Value| json!({"level": answer["level"], "mitigations": answer["mitigations"]});
    assert_eq!((state(&first), &first["since_seen"]), (recommended.clone(), &Value::Null));
    server.post("/v1/users/ada/acknowledge", &json!({"by": "rev"})).ok();
    let stands = server.get("/v1/users/ada").ok();
    let nothing = json!({"level": "none", "mitigations": []});
    assert_eq!((state(&stands), &stands["since_seen"]), (recommended.clone(), &nothing));
    // What comes then counts anew: in a draft, of which nothing stays, in a turn, and after a restart.
    let more = turn("ada", "t", &talk);
    assert_eq!(server.post("/v1/check", &more).ok()["since_seen"], recommended);
    assert_eq!(server.get("/v1/users/ada").ok()["since_seen"], nothing);
    assert_eq!(server.post("/v1/turns", &more).ok()["since_seen"], recommended);
    assert_eq!(server.stop().0, Some(0));
    let server = Server::start(home.path(), &arguments);
    assert_eq!(server.get("/v1/users/ada").ok()["since_seen"], recommended);
}

#[test]
fn a_hold_is_set_before_the_first_turn() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    server.put("/v1/users/ada/hold", &json!({"held": false})).problem(404);
    assert_eq!(server.put("/v1/users/ada/hold", &json!({"held": true})).status, 204);
    let stands = server.get("/v1/users/ada").ok();
    assert_eq!((&stands["held"], &stands["messages"]), (&json!(true), &json!(0)));
    let kept = server.post("/v1/turns", &turn("ada", "s", &conversation(1)[0])).ok();
    assert_eq!(kept["messages_kept"], json!(2));
    assert!(server.delete("/v1/users/ada").problem(409).contains("legal hold"));
}

/// Makes everything that is kept so much older.
fn age(home: &Path, days: i64) {
    let connection = Connection::open(home.join(FILE)).unwrap();
    let by = days * 86_400_000;
    connection.execute("UPDATE messages SET kept_ms = kept_ms - ?1", [by]).unwrap();
    connection.execute("UPDATE users SET last_ms = last_ms - ?1", [by]).unwrap();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_old_is_dropped_and_who_is_silent_is_forgotten() {
    let home = folder();
    let turns = conversation(8);
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    for user in ["ada", "held", "talking"] {
        for messages in &turns[..3] {
            server.post("/v1/turns", &turn(user, "s", messages)).ok();
        }
    }
    server.put("/v1/users/held/hold", &json!({"held": true}));
    // An alarm that waits for a person would keep everything.
    for user in ["ada", "held", "talking"] {
        server.post(&format!("/v1/users/{user}/acknowledge"), &json!({"by": "rev"})).ok();
    }
    assert_eq!(server.stop().0, Some(0));
    age(home.path(), 40);
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    let before = server.get("/v1/users/talking").ok();
    for messages in &turns[3..5] {
        server.post("/v1/turns", &turn("talking", "s", messages)).ok();
    }
    server.post("/v1/users/talking/acknowledge", &json!({"by": "rev"})).ok();
    let late = server.get("/v1/users/talking").ok();
    assert_ne!(before, late);
    assert_eq!(server.stop().0, Some(0));
    let days = ["--kernel", "portable", "--retain-content-days", "7", "--retain-days", "30"];
    let server = Server::start(home.path(), &days);
    until("nobody was forgotten", || server.get("/v1/users/ada").status == 404);
    assert_eq!(server.get("/v1/users/held").ok()["messages"], json!(6));
    // Scores stay as they were, and turns go on in the same place.
    server.until_logged("old content dropped");
    assert_eq!(server.get("/v1/users/talking").ok(), late);
    let kept = server.post("/v1/turns", &turn("talking", "s", &turns[5])).ok();
    assert_eq!((&kept["messages_kept"], &kept["messages"][0]["message_index"]), (&json!(12), &json!(10)));
    assert_eq!(server.stop().0, Some(0));
    let connection = Connection::open(home.path().join(FILE)).unwrap();
    let left = "SELECT COUNT(content), COUNT(score) FROM messages JOIN users ON users.id = owner WHERE held = 0";
    let left: (i64, i64) = connection.query_row(left, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(left, (6, 12));
}
