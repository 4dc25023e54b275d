//! What takes more than a window gives way to other users between its windows.

#![cfg(feature = "server")]

use std::time::{Duration, Instant};

use serde_json::json;
use serve_support::cli_support::folder;
use serve_support::{Server, conversation, said, turn};

mod serve_support;

/// Waits until a count is so high.
fn until_counted(server: &Server, name: &str, at_least: f64) {
    let begun = Instant::now();
    loop {
        let text = server.get("/metrics").text;
        let count = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        if count.unwrap_or_else(|| panic!("no {name} in {text}")) >= at_least {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn whoever_waits_for_a_reply_does_not_wait_for_another_users_long_turn() {
    let (home, other) = (folder(), folder());
    let settings = ["--kernel", "portable", "--turn-bytes-max", "1000000", "--deadline-ms", "120000"];
    let (server, quiet) = (Server::start(home.path(), &settings), Server::start(other.path(), &settings));
    let long = turn("ada", "s", &[said("user", &"the garden again, ".repeat(6_000))]);
    let short = |user: &str| turn(user, "s", &[said("user", "hello")]);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let told = server.post("/v1/turns", &long).ok();
            (Instant::now(), told)
        });
        until_counted(&server, "throughline_queue_tokens", 10_000.0);
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
        until_counted(&server, "throughline_queue_tokens", 10_000.0);
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
    let long = turn("ada", "s", &[said("user", &"the garden again, ".repeat(6_000))]);
    server.post_with("/v1/check", &[("x-deadline-ms", "50")], &long).problem(503);
    until_counted(&server, "throughline_skipped_total", 1.0);
    let [after, before] = [&server, &quiet].map(|server| server.post("/v1/turns", &turn("ada", "s", &turns[1])).ok());
    assert_eq!(after, before);
}
