//! `score --explain`: what is left of an alarm is what a history without its messages really gives.

#![cfg(feature = "cli")]

mod cli_support;

use cli_support::{code, folder, lines, score, session, str, text, throughline, write};
use serde_json::Value;

/// A history of one user in records of two messages; `left_out` are places of (session, message).
fn records(left_out: &[(u64, u64)]) -> String {
    let mut records = String::new();
    for number in 0..6u64 {
        let first = format!("On day {number} I saw the grey van and the {number} signs again");
        let second = format!("and then {number} more of them, near the bridge");
        let all = [("user", first.as_str()), ("assistant", "I see."), ("user", &second), ("assistant", "Go on.")];
        let mut gone = false;
        let mut kept = Vec::new();
        for (place, one) in all.iter().enumerate() {
            if one.0 == "user" {
                gone = left_out.contains(&(number, place as u64));
            }
            if !gone {
                kept.push(*one);
            }
        }
        if !kept.is_empty() {
            records += &session("ada", &format!("ada-{number}"), number as usize + 1, &kept);
        }
    }
    records
}

fn arcs(output: &std::process::Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{output:?}");
    let history = lines(&output.stdout).into_iter().find(|line| line["type"] == "history").unwrap();
    history["arcs"].as_array().unwrap().clone()
}

#[test]
fn what_is_left_is_the_score_of_the_history_without_the_messages() {
    let folder = folder();
    let whole = write(&folder, "whole.jsonl", &records(&[]));
    let plain = arcs(&score(&[str(&whole), "-q", "-o", "-"]));
    let highest = plain.iter().map(|arc| arc["score"].as_f64().unwrap()).fold(0.0, f64::max);
    assert!(highest > 0.05, "the tiny model must see something: {plain:?}");
    // A policy by which its highest arc is well above `review`, so that several messages must go.
    let shown = text(&throughline().args(["policy", "show"]).output().unwrap().stdout);
    let low = format!("score_min = {:.4} ", highest * 0.6);
    let policy = shown.replace("score_min = 0.28 ", "score_min = 0.01 ").replace("score_min = 0.398 ", &low);
    let policy = policy.replace("score_min = 0.5 ", "score_min = 1.0 ");
    let policy = write(&folder, "policy.toml", &policy.replace("imminent_min = 0.3 ", "imminent_min = 1.0 "));
    let explained = arcs(&score(&[str(&whole), "-q", "-o", "-", "--policy", str(&policy), "--explain"]));
    assert!(plain.iter().all(|arc| arc.get("explanation").is_none()), "not asked for");
    let arc = explained.iter().find(|arc| arc["score"].as_f64() == Some(highest)).unwrap();
    let steps = arc["explanation"]["without"].as_array().unwrap();
    assert!(steps.len() > 1, "{arc}");
    for step in steps {
        let count = step["messages"].as_u64().unwrap() as usize;
        let evidence = arc["evidence"].as_array().unwrap().iter().take(count);
        let place = |one: &Value| (one["session_index"].as_u64().unwrap(), one["message_index"].as_u64().unwrap());
        let left = write(&folder, "left.jsonl", &records(&evidence.map(place).collect::<Vec<_>>()));
        let again = arcs(&score(&[str(&left), "-q", "-o", "-", "--policy", str(&policy)]));
        let same = again.iter().find(|one| one["kind"] == arc["kind"]).unwrap();
        assert_eq!((&same["score"], &same["level"]), (&step["score"], &step["level"]), "{count} taken away");
    }
    let last = steps.last().unwrap();
    let gone = last["level"] == "none" || last["level"] == "watch";
    assert_eq!(gone, arc["explanation"]["carried_by"].is_u64(), "{arc}");
    // What each is found to add, and the rest, are the score.
    let parts = arc["explanation"]["parts"].as_array().unwrap();
    let sum: f64 = parts.iter().map(|part| part["score"].as_f64().unwrap()).sum();
    let rest = arc["explanation"]["rest"].as_f64().unwrap();
    assert!((sum + rest - highest).abs() < 1e-6 && !parts.is_empty(), "{arc}");
    let named: usize = parts.iter().map(|part| part["messages"].as_array().unwrap().len()).sum();
    assert_eq!(parts[0]["messages"][0]["message_index"], arc["evidence"][0]["message_index"]);
    assert_eq!(Some(named as u64), arc["explanation"]["carried_by"].as_u64().or(last["messages"].as_u64()), "{arc}");
    let summary = text(&score(&[str(&whole), "-q", "--policy", str(&policy), "--explain"]).stdout);
    assert!(summary.contains("read without its") && summary.contains("falls to session"), "{summary}");
}
