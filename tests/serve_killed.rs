//! Whatever moment the server, or its database, is killed at: every acknowledged turn is there exactly once.

#![cfg(feature = "server")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use serve_support::cli_support::folder;
use serve_support::{Server, said, turn};

#[cfg(all(unix, feature = "postgres"))]
mod postgres_support;
mod serve_support;

/// `THROUGHLINE_KILLS` asks for more.
const KILLS: usize = 6;
const USERS: usize = 4;

/// What a client knows of its user: turns that were acknowledged, and the one that was sent and not answered.
#[derive(Default)]
struct Client {
    acknowledged: usize,
    /// Answers by turn.
    answers: BTreeMap<usize, String>,
}

fn message(user: usize, number: usize) -> Value {
    let words = ["garden", "she was there", "rain", "a sign", "tonight", "my street"];
    let text: Vec<&str> =
        (0..4 + (user + number) % 9).map(|i| words[(user * 7 + number * 3 + i) % words.len()]).collect();
    said("user", &format!("{number}: {}", text.join(" ")))
}

/// Sends turns until the server is gone; a turn that was not answered is sent again with its key by the next. Of a server whose database
/// is gone that is said, and the turn sent again.
fn chat(server: &Server, user: usize, client: &Mutex<Client>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let number = client.lock().unwrap().acknowledged;
        let asked = turn(&format!("user-{user}"), &format!("s{}", number / 5), &[message(user, number)]);
        let headers = [("content-type", "application/json"), ("idempotency-key", &*format!("turn-{number}"))];
        let reply = server.ask(ureq::http::Method::POST, "/v1/turns", &headers, Some(&asked.to_string()));
        let Ok(reply) = reply else { return };
        if reply.status == 503 {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        assert_eq!(reply.status, 200, "{reply:?}");
        let mut client = client.lock().unwrap();
        client.answers.insert(number, reply.text);
        client.acknowledged = number + 1;
    }
}

fn kills() -> usize {
    std::env::var("THROUGHLINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// Lets clients chat with the server, for another while each round, and then does something to it.
fn under_load<T>(server: &Server, clients: &[Mutex<Client>], round: usize, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (user, client) in clients.iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || chat(server, user, client, stop));
        }
        let pause = (0..=round).fold(37, |pause, _| (pause * 73 + 19) % 397);
        std::thread::sleep(Duration::from_millis(20 + pause));
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

fn kill(server: &Server) {
    let kill = std::process::Command::new("kill").args(["-KILL", &server.id().to_string()]).status();
    assert!(kill.unwrap().success());
}

/// Starts a server, which must need no help, and holds what it has against what clients know.
fn check_all(start: &dyn Fn() -> Server, clients: &[Mutex<Client>]) {
    let server = start();
    for (user, client) in clients.iter().enumerate() {
        check(&server, user, &mut client.lock().unwrap());
    }
    assert_eq!(server.stop().0, Some(0));
}

fn told(what: &str, kills: usize, clients: &[Mutex<Client>]) {
    let acknowledged: usize = clients.iter().map(|client| client.lock().unwrap().acknowledged).sum();
    assert!(acknowledged > kills, "a test that can fail: {acknowledged} turns");
    eprintln!("{kills} kills of {what}, {acknowledged} turns acknowledged, each there once");
}

#[test]
fn every_acknowledged_turn_is_there_exactly_once() {
    let home = folder();
    killed_servers(&|| Server::start(home.path(), &["--kernel", "portable"]), "the server on SQLite");
}

fn killed_servers(start: &dyn Fn() -> Server, what: &str) {
    let kills = kills();
    let clients: Vec<Mutex<Client>> = (0..USERS).map(|_| Mutex::default()).collect();
    for round in 0..kills {
        let server = start();
        under_load(&server, &clients, round, || kill(&server));
        drop(server);
        if round % 3 == 2 || round + 1 == kills {
            check_all(start, &clients);
        }
    }
    told(what, kills, &clients);
}

#[cfg(all(unix, feature = "postgres"))]
mod on_postgres {
    use super::*;
    use crate::postgres_support::Postgres;
    use crate::serve_support::cli_support::write;

    fn starts(home: &tempfile::TempDir, url: String) -> impl Fn() -> Server {
        let key = write(home, "shared-key", &"5a".repeat(32));
        let folder = home.path().to_owned();
        move || {
            let key = key.to_str().unwrap();
            Server::start(&folder, &["--kernel", "portable", "--database", &url, "--key-file", key])
        }
    }

    #[test]
    fn every_acknowledged_turn_is_there_exactly_once() {
        let Some(database) = Postgres::start(&[]) else { return };
        let home = folder();
        killed_servers(&starts(&home, database.url()), "the server on PostgreSQL");
    }

    #[test]
    fn a_database_that_is_killed_loses_and_doubles_nothing() {
        let Some(mut database) = Postgres::start(&[]) else { return };
        let (home, kills) = (folder(), kills());
        let start = starts(&home, database.url());
        let clients: Vec<Mutex<Client>> = (0..USERS).map(|_| Mutex::default()).collect();
        // The server goes on all the while.
        let server = start();
        for round in 0..kills {
            let before: usize = clients.iter().map(|client| client.lock().unwrap().acknowledged).sum();
            under_load(&server, &clients, round, || {
                database.kill();
                database.restart();
                // It is connected to again, and turns are taken in.
                let begun = std::time::Instant::now();
                while clients.iter().map(|client| client.lock().unwrap().acknowledged).sum::<usize>() <= before + 1 {
                    assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            if round % 3 == 2 || round + 1 == kills {
                // Another server sees the same.
                check_all(&start, &clients);
            }
        }
        assert_eq!(server.stop().0, Some(0));
        told("PostgreSQL", kills, &clients);
    }
}

/// The user's history is the acknowledged turns, and perhaps the one whose answer was lost, and its state is that of the batch.
fn check(server: &Server, user: usize, client: &mut Client) {
    let path = format!("/v1/users/user-{user}");
    let reply = server.get(&path);
    if client.acknowledged == 0 && reply.status == 404 {
        return;
    }
    let stands = reply.ok();
    let kept = stands["messages"].as_u64().unwrap() as usize;
    assert!([client.acknowledged, client.acknowledged + 1].contains(&kept), "{kept} of {}", client.acknowledged);
    let mut sessions: Vec<Value> = Vec::new();
    for number in 0..kept {
        if number.is_multiple_of(5) {
            sessions.push(json!({"session_id": format!("s{}", number / 5), "messages": []}));
        }
        sessions.last_mut().unwrap()["messages"].as_array_mut().unwrap().push(message(user, number));
    }
    let whole = server.post("/v1/score", &json!({"sessions": sessions})).ok();
    for (a, b) in stands["arcs"].as_array().unwrap().iter().zip(whole["arcs"].as_array().unwrap()) {
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-3, "{a} {b}");
    }
    // Sent again, a turn is answered as it was.
    if let Some((number, answer)) = client.answers.last_key_value() {
        let asked = turn(&format!("user-{user}"), &format!("s{}", number / 5), &[message(user, *number)]);
        let again = server.post_with("/v1/turns", &[("idempotency-key", &*format!("turn-{number}"))], &asked);
        assert_eq!((again.status, &again.text), (200, answer));
    }
}
