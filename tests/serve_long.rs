//! What takes more than a window gives way to other users between its pieces.

#![cfg(feature = "server")]

use std::time::Instant;

use serde_json::{Value, json};
use serve_support::cli_support::folder;
use serve_support::{Server, conversation, said, turn};

mod serve_support;

/// Turns of so many characters about are let in, and waited for.
const ROOM: [&str; 6] = ["--kernel", "portable", "--turn-bytes-max", "1000000", "--deadline-ms", "120000"];
/// Tokens that wait or are being read, and how many they are where a long turn is among them.
const QUEUED: &str = "throughline_queue_tokens";
const LONG_TOKENS: f64 = 5_000.0;

/// Of so many times three words.
fn long(user: &str, times: usize) -> Value {
    turn(user, "s", &[said("user", &"the garden again, ".repeat(times))])
}

fn short(user: &str) -> Value {
    turn(user, "s", &[said("user", "hello")])
}

#[test]
fn whoever_waits_for_a_reply_does_not_wait_for_another_users_long_turn() {
    let (home, other) = (folder(), folder());
    let (server, quiet) = (Server::start(home.path(), &ROOM), Server::start(other.path(), &ROOM));
    let long = long("ada", 6_000);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let told = server.post("/v1/turns", &long).ok();
            (Instant::now(), told)
        });
        server.until_counted(QUEUED, LONG_TOKENS);
        // What the same user says meanwhile comes after it.
        let next = scope.spawn(|| server.post("/v1/turns", &short("ada")).ok());
        (0..5).for_each(|number| drop(server.post("/v1/turns", &short(&format!("u{number}"))).ok()));
        let served = Instant::now();
        assert_eq!(server.get("/readyz").status, 200);
        let (done, told) = reading.join().unwrap();
        assert!(served < done, "they waited {:?} longer", served - done);
        assert_eq!((&told["messages_kept"], &next.join().unwrap()["messages_kept"]), (&json!(1), &json!(2)));
        assert_eq!(told["messages"], quiet.post("/v1/turns", &long).ok()["messages"], "pauses change nothing");
    });
    // Whoever is erased meanwhile is erased after it.
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| server.post("/v1/turns", &long).ok());
        server.until_counted(QUEUED, LONG_TOKENS);
        assert_eq!(server.delete("/v1/users/ada").status, 204);
        assert_eq!(reading.join().unwrap()["messages_kept"], json!(3));
    });
    assert_eq!(server.get("/v1/users/ada").status, 404);
}

#[test]
fn a_draft_that_nobody_waits_for_is_let_go_and_leaves_the_history_as_it_was() {
    let (home, other) = (folder(), folder());
    // Without texts, a history that is let go has no words to go on from.
    let settings = ["--kernel", "portable", "--turn-bytes-max", "1000000", "--no-content"];
    let (server, quiet) = (Server::start(home.path(), &settings), Server::start(other.path(), &settings));
    let turns = conversation(2);
    for server in [&server, &quiet] {
        server.post("/v1/turns", &turn("ada", "s", &turns[0])).ok();
    }
    server.post_with("/v1/check", &[("x-deadline-ms", "50")], &long("ada", 6_000)).problem(503);
    server.until_counted("throughline_skipped_total", 1.0);
    let [after, before] = [&server, &quiet].map(|server| server.post("/v1/turns", &turn("ada", "s", &turns[1])).ok());
    assert_eq!(after, before);
}

#[test]
fn a_stop_waits_for_a_long_turn_and_keeps_it() {
    let home = folder();
    let server = Server::start(home.path(), &ROOM);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| server.post("/v1/turns", &long("ada", 1_500)).ok());
        server.until_counted(QUEUED, LONG_TOKENS);
        server.terminate();
        assert_eq!(reading.join().unwrap()["messages_kept"], json!(1));
    });
    let (code, log) = server.ended();
    assert_eq!(code, Some(0), "{log}");
    let again = Server::start(home.path(), &ROOM);
    assert_eq!(again.get("/v1/users/ada").ok()["messages"], json!(1));
    assert_eq!(again.post("/v1/turns", &short("ada")).ok()["messages_kept"], json!(2));
}
