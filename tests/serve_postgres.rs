//! Two servers on one PostgreSQL database: their callers cannot tell them from one.

#![cfg(all(unix, feature = "server", feature = "postgres"))]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use postgres_support::breaker::{Breaker, COMMIT};
use postgres_support::{PASSWORD, Postgres};
use serde_json::{Value, json};
use serve_support::cli_support::{code, folder, text, throughline, write};
use serve_support::{EAGER, Server, conversation, said, turn};
use tempfile::TempDir;

mod postgres_support;
mod serve_support;

fn key_file(home: &TempDir) -> PathBuf {
    write(home, "shared-key", &"5a".repeat(32))
}

fn start(home: &TempDir, url: &str, more: &[&str]) -> Server {
    let (key, policy) = (key_file(home), write(home, "eager.toml", EAGER));
    let own = ["--kernel", "portable", "--database", url, "--key-file", key.to_str().unwrap()];
    Server::start(home.path(), &[&own[..], &["--policy", policy.to_str().unwrap()], more].concat())
}

/// Sends a turn until it is taken.
fn send(server: &Server, key: &str, asked: &Value) -> Value {
    for _ in 0..100 {
        let reply = server.post_with("/v1/turns", &[("idempotency-key", key)], asked);
        if reply.status == 200 {
            return reply.json();
        }
        // Another server went first, again and again.
        reply.problem(409);
    }
    panic!("it is never taken")
}

#[test]
fn two_servers_hammered_with_one_user_come_to_what_one_server_comes_to() {
    const TURNS: usize = 12;
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    let servers = [start(&home, &database.url(), &[]), start(&home, &database.url(), &[])];
    // Every turn is the same, so that their order is no matter.
    let asked = turn("ada", "s", &conversation(1)[0]);
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let (servers, asked) = (&servers, &asked);
            scope.spawn(move || {
                for number in 0..TURNS {
                    let key = format!("{sender} {number}");
                    // Now and then the same turn goes to both at once, and both give the same answer.
                    let other = (number % 4 == 0).then(|| &servers[1 - sender % 2]);
                    let (a, b) = std::thread::scope(|scope| {
                        let other = other.map(|other| scope.spawn(|| send(other, &key, asked)));
                        (send(&servers[sender % 2], &key, asked), other.map(|other| other.join().unwrap()))
                    });
                    assert!(b.is_none_or(|b| a == b));
                }
            });
        }
    });
    let alone = folder();
    let policy = write(&alone, "eager.toml", EAGER);
    let one = Server::start(alone.path(), &["--kernel", "portable", "--policy", policy.to_str().unwrap()]);
    for _ in 0..4 * TURNS {
        one.post("/v1/turns", &asked).ok();
    }
    let expected = one.get("/v1/users/ada").ok();
    assert_eq!(expected["messages"], json!(2 * 4 * TURNS));
    for server in &servers {
        let stands = server.get("/v1/users/ada").ok();
        for key in ["messages", "sessions", "level"] {
            assert_eq!(stands[key], expected[key], "{key}");
        }
        assert_eq!(stands["alarms"].as_array().unwrap().len(), expected["alarms"].as_array().unwrap().len());
        for (a, b) in stands["arcs"].as_array().unwrap().iter().zip(expected["arcs"].as_array().unwrap()) {
            assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-3, "{a} {b}");
        }
    }
    for server in servers {
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn what_one_server_does_the_other_shows() {
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    let (one, two) = (start(&home, &database.url(), &[]), start(&home, &database.url(), &[]));
    let mut stream = TcpStream::connect(two.url.trim_start_matches("http://")).unwrap();
    // Well before the next sign of life.
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    stream.write_all(b"GET /v1/alarms/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut events = BufReader::new(stream);
    let mut event = String::new();
    while !event.ends_with("\r\n\r\n") {
        events.read_line(&mut event).unwrap();
    }
    let turns = conversation(8);
    let raised: Vec<Value> = turns[..4]
        .iter()
        .map(|messages| one.post("/v1/turns", &turn("ada", "s", messages)).ok()["alarm"].clone())
        .filter(|alarm| !alarm.is_null())
        .collect();
    assert_eq!(raised.len(), 1, "{raised:?}");
    while !event.contains("data:") {
        assert!(events.read_line(&mut event).unwrap() > 0, "the stream ended: {event}");
    }
    assert!(event.contains("\"user_id\":\"ada\"") && event.contains(&format!("id: {}", raised[0]["id"])), "{event}");
    // Turns go to one and the other; neither goes on from what only it knew.
    for (number, messages) in turns[4..].iter().enumerate() {
        let server = if number % 2 == 0 { &two } else { &one };
        let answer = server.post("/v1/turns", &turn("ada", "s", messages)).ok();
        assert_eq!((&answer["messages_kept"], &answer["alarm"]), (&json!(2 * (number + 5)), &Value::Null));
    }
    assert_eq!(two.post("/v1/users/ada/acknowledge", &json!({"by": "rev"})).ok()["acknowledged"], json!(1));
    assert_eq!(one.get("/v1/alarms?open=true").ok()["alarms"], json!([]));
    assert_eq!(one.put("/v1/users/ada/hold", &json!({"held": true})).status, 204);
    assert!(two.delete("/v1/users/ada").problem(409).contains("legal hold"));
    assert_eq!(two.put("/v1/users/ada/hold", &json!({"held": false})).status, 204);
    assert_eq!(two.delete("/v1/users/ada").status, 204);
    // The first still has the history in memory; it is gone all the same.
    let again = one.post("/v1/turns", &turn("ada", "s", &turns[0])).ok();
    assert_eq!((&again["messages_kept"], &again["messages"][0]["message_index"]), (&json!(2), &json!(0)));
}

#[test]
fn what_came_while_two_people_looked_is_raised_once() {
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    let (one, two) = (start(&home, &database.url(), &[]), start(&home, &database.url(), &[]));
    let talk = conversation(6).concat();
    let mut waiting = Vec::new();
    for round in 0..6 {
        // Until a turn raises none, since one of its level waits.
        for number in 0.. {
            let said = turn("ada", &format!("{round} {number}"), &talk);
            match two.post("/v1/turns", &said).ok()["alarm"]["id"].as_i64() {
                Some(id) => waiting.push(id),
                None => break,
            }
            assert!(number < 5, "{waiting:?}");
        }
        let seen = json!({"by": "rev", "up_to": waiting.last().unwrap()});
        let acknowledge =
            |server: &Server| server.post("/v1/users/ada/acknowledge", &seen).ok()["acknowledged"].as_u64().unwrap();
        let noted = std::thread::scope(|scope| {
            let other = scope.spawn(|| acknowledge(&two));
            acknowledge(&one) + other.join().unwrap()
        });
        assert_eq!(noted, waiting.len() as u64);
        let open = one.get("/v1/alarms?open=true").ok()["alarms"].clone();
        assert_eq!(open, two.get("/v1/alarms?open=true").ok()["alarms"]);
        assert_eq!((open.as_array().unwrap().len(), &open[0]["level"]), (1, &json!("review")), "{open}");
        let raised = open[0]["id"].as_i64().unwrap();
        assert!(Some(&raised) > waiting.last(), "{open}");
        waiting = vec![raised];
    }
}

/// While one server reads a long turn, the other keeps a turn of the same user, and of one who waits beside.
#[test]
fn a_long_turn_that_another_server_overtakes_is_judged_again_behind_it() {
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    let room = ["--turn-bytes-max", "1000000", "--deadline-ms", "120000"];
    let (one, two) = (start(&home, &database.url(), &room), start(&home, &database.url(), &room));
    let kept = |server: &Server, asked: &Value| server.post("/v1/turns", asked).ok()["messages_kept"].clone();
    let short = |user: &str| turn(user, "s", &[said("user", "hello")]);
    let long = turn("ada", "s", &[said("user", &"the garden again, ".repeat(1_500))]);
    assert_eq!(kept(&one, &short("eve")), json!(1));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| kept(&one, &long));
        one.until_counted("throughline_queue_tokens", 5_000.0);
        assert_eq!(kept(&two, &short("eve")), json!(2));
        assert_eq!(kept(&two, &short("ada")), json!(1));
        assert_eq!(kept(&one, &short("eve")), json!(3), "what one has in memory is old");
        assert_eq!(reading.join().unwrap(), json!(2), "it came behind");
    });
    assert_eq!(one.get("/v1/users/ada").ok()["messages"], json!(2));
    assert_eq!(kept(&two, &short("ada")), json!(3));
}

#[test]
fn what_is_dropped_by_one_server_is_not_in_anothers_memory() {
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    let one = start(&home, &database.url(), &[]);
    let turns = conversation(8);
    for messages in &turns[..6] {
        one.post("/v1/turns", &turn("ada", "s", messages)).ok();
    }
    one.post("/v1/users/ada/acknowledge", &json!({"by": "rev"})).ok();
    database.sql("UPDATE throughline.messages SET kept_ms = kept_ms - 8 * 86400000 WHERE number < 8");
    let in_memory = one.post("/v1/check", &turn("ada", "s", &turns[7])).ok();
    let two = start(&home, &database.url(), &["--retain-content-days", "7"]);
    let begun = std::time::Instant::now();
    while database.sql("SELECT dropped FROM throughline.users") != "8" {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", two.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let drafts = [&one, &two].map(|server| server.post("/v1/check", &turn("ada", "s", &turns[7])).ok());
    assert_eq!(drafts[0], drafts[1], "both read what is left");
    assert_ne!(drafts[0]["messages"], in_memory["messages"], "a test that can fail");
}

#[test]
fn a_turn_whose_commit_was_not_confirmed_is_kept_once() {
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    for heard in [true, false] {
        let breaker = Breaker::start(database.port(), (COMMIT, heard));
        let server = start(&home, &database.url_at(breaker.port), &[]);
        let user = format!("heard {heard}");
        let asked = |messages| turn(&user, "s", messages);
        let turns = conversation(3);
        server.post("/v1/turns", &asked(&turns[0])).ok();
        breaker.arm();
        let key = [("idempotency-key", "k1")];
        let kept = server.post_with("/v1/turns", &key, &asked(&turns[1])).ok();
        assert!(breaker.broke(), "a test that can fail");
        assert_eq!(kept["messages_kept"], json!(4));
        assert_eq!(server.post_with("/v1/turns", &key, &asked(&turns[1])).ok(), kept);
        // Without a key nobody can know: the caller is told.
        breaker.arm();
        let told = server.post("/v1/turns", &asked(&turns[2])).problem(503);
        assert!(told.contains("before it said whether this was kept"), "{told}");
        let messages = server.get(&format!("/v1/users/heard%20{heard}")).ok()["messages"].clone();
        assert_eq!(messages, json!(if heard { 6 } else { 4 }));
    }
}

#[test]
fn while_the_database_is_away_callers_are_told_and_then_it_goes_on() {
    let Some(mut database) = Postgres::start(&[]) else { return };
    let home = folder();
    let server = start(&home, &database.url(), &[]);
    let turns = conversation(2);
    server.post("/v1/turns", &turn("ada", "s", &turns[0])).ok();
    assert_eq!(server.get("/readyz").status, 200);
    database.kill();
    for _ in 0..20 {
        let reply = server.post("/v1/turns", &turn("ada", "s", &turns[1]));
        assert!(reply.problem(503).contains("cannot be reached"), "{reply:?}");
        assert_eq!(reply.header("retry-after"), Some("1"));
        server.get("/readyz").problem(503);
    }
    assert_eq!(server.get("/healthz").status, 200, "it lives");
    database.restart();
    let begun = std::time::Instant::now();
    while server.get("/readyz").status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(15), "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.post("/v1/turns", &turn("ada", "s", &turns[1])).ok()["messages_kept"], json!(4));
    let (status, log) = server.stop();
    assert_eq!(status, Some(0), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn the_command_line_asks_for_a_key_and_tells_no_password() {
    let Some(database) = Postgres::start(&[]) else { return };
    let home = folder();
    let server = start(&home, &database.url(), &[]);
    server.post("/v1/turns", &turn("ada", "s", &[said("user", "hello")])).ok();
    assert!(server.log().contains(&database.url().replace(&format!(":{PASSWORD}"), "")), "{}", server.log());
    let key = key_file(&home);
    let run = |arguments: &[&str], keyed: bool| {
        let mut command = throughline();
        command.args(arguments).env("THROUGHLINE_DATABASE", database.url()).current_dir(home.path());
        if keyed {
            command.env("THROUGHLINE_KEY_FILE", &key);
        }
        let output = command.output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(!told.contains(PASSWORD), "{told}");
        (code(&output), told)
    };
    let (status, told) = run(&["store", "check"], true);
    assert!(status == 0 && told.contains("users 1, messages 1"), "{told}");
    let (status, told) = run(&["store", "check"], false);
    assert!(status == 2 && told.contains("--key-file") && told.contains("hint"), "{told}");
    let (status, told) = run(&["store", "backup", "copy"], true);
    assert!(status == 2 && told.contains("pg_dump --format=custom"), "{told}");
    let (status, told) = run(&["store", "restore", "copy"], true);
    assert!(status == 2 && told.contains("pg_restore"), "{told}");
    assert_eq!(run(&["serve", "--help"], true).0, 0);
}
