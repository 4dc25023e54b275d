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

/// The same but for what rounding does: keys and values that are computed at once are summed in another order than one after the other.
fn are_near(here: &Value, there: &Value) -> bool {
    match (here, there) {
        (Value::Array(here), Value::Array(there)) => {
            here.len() == there.len() && here.iter().zip(there).all(|(here, there)| are_near(here, there))
        }
        (Value::Object(here), Value::Object(there)) => {
            here.len() == there.len() && here.iter().all(|(key, here)| are_near(here, &there[key]))
        }
        (Value::Number(here), Value::Number(there)) => (here.as_f64().unwrap() - there.as_f64().unwrap()).abs() < 1e-4,
        (here, there) => here == there,
    }
}

/// What is held in memory only saves time: with room for one user, and for no keys and values, everyone stands as they would.
#[test]
fn whoever_is_forgotten_and_read_again_stands_the_same() {
    let homes = [folder(), folder()];
    let roomy = Server::start(homes[0].path(), &["--kernel", "portable"]);
    let narrow = ["--kernel", "portable", "--users-max", "1", "--cache-mib-max", "0"];
    let narrow = Server::start(homes[1].path(), &narrow);
    for messages in conversation(6) {
        for user in ["ada", "bo", "cy"] {
            let asked = turn(user, "s", &messages);
            let [here, there] = [&roomy, &narrow].map(|server| server.post("/v1/turns", &asked).ok());
            assert!(are_near(&here["messages"], &there["messages"]), "{here} {there}");
            assert!(are_near(&here["arcs"], &there["arcs"]), "{here} {there}");
            assert_eq!(here["level"], there["level"]);
        }
    }
    assert!(roomy.get("/metrics").text.contains("throughline_recomputed_tokens_total 0\n"));
    let metrics = narrow.get("/metrics").text;
    assert!(!metrics.contains("throughline_recomputed_tokens_total 0\n"), "{metrics}");
    assert!(metrics.contains("throughline_histories_total{result=\"recalled\"} 18"), "{metrics}");
    assert!(
        metrics.contains("throughline_users_in_memory 1\n") && metrics.contains("throughline_cached_bytes 0\n"),
        "{metrics}"
    );
}
