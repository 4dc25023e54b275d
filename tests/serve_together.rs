//! Users who ask at once are judged side by side; each is answered as if there were nobody else.

#![cfg(feature = "server")]

use serde_json::{Value, json};
use serve_support::cli_support::folder;
use serve_support::{Server, conversation, said, turn};

mod serve_support;

const USERS: usize = 12;
const TURNS: usize = 6;

/// The turn of that number, of that user's own.
fn words(user: usize, number: usize) -> Vec<Value> {
    let turns = conversation(USERS + TURNS);
    let mut messages = turns[user + number].clone();
    messages[0] = said("user", &format!("{} {}", user * 7, messages[0]["content"].as_str().unwrap()));
    messages
}

/// What each user's turns, and a draft before each, are answered.
fn answers(server: &Server, at_once: bool) -> Vec<Vec<Value>> {
    let one = |user: usize| -> Vec<Value> {
        let ask = |number: usize| {
            let asked = turn(&format!("u{user}"), &format!("s{}", number / 3), &words(user, number));
            let (draft, mut kept) = (server.post("/v1/check", &asked).ok(), server.post("/v1/turns", &asked).ok());
            // Alarms are numbered in the order in which they come.
            if let Some(alarm) = kept["alarm"].as_object_mut() {
                alarm.remove("id");
            }
            [draft, kept]
        };
        (0..TURNS).flat_map(ask).collect()
    };
    if !at_once {
        return (0..USERS).map(one).collect();
    }
    std::thread::scope(|scope| {
        // While a whole history is read, turns gather.
        let messages: Vec<Value> = (0..600).map(|i| said("user", &format!("{i} the garden again and again"))).collect();
        scope
            .spawn(move || server.post("/v1/score", &json!({"sessions": [{"session_id": "s", "messages": messages}]})));
        let all: Vec<_> = (0..USERS).map(|user| scope.spawn(move || one(user))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn users_who_ask_at_once_are_answered_as_if_alone() {
    let (home, other) = (folder(), folder());
    let (alone, together) = (Server::start(home.path(), &[]), Server::start(other.path(), &[]));
    let (expected, found) = (answers(&alone, false), answers(&together, true));
    for (user, (expected, found)) in expected.iter().zip(&found).enumerate() {
        for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
            assert_eq!(expected, found, "user {user}, answer {number}");
        }
    }
    let text = together.get("/metrics").text;
    let count = |line: &str| -> f64 {
        let found = text.lines().find_map(|one| one.strip_prefix(line));
        found.unwrap_or_else(|| panic!("no {line} in {text}")).trim().parse().unwrap()
    };
    let (jobs, batches) = (count("throughline_batch_turns_sum "), count("throughline_batch_turns_count "));
    assert_eq!(jobs, (2 * USERS * TURNS) as f64);
    assert!(batches < jobs / 1.5, "{batches} batches of {jobs} turns and drafts");
    // A batch that holds one token holds one turn.
    let home = folder();
    let one = Server::start(home.path(), &["--batch-tokens-max", "1"]);
    assert_eq!(answers(&one, true), expected);
    assert!(one.get("/metrics").text.contains(&format!("throughline_batch_turns_count {}", 2 * USERS * TURNS)));
}
