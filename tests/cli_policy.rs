//! `throughline policy`, and what a policy changes in `score`.

#![cfg(feature = "cli")]

mod cli_support;

use std::path::Path;

use cli_support::{code, folder, lines, score, session, sessions, str, text, throughline, write};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn policy(arguments: &[&str]) -> std::process::Output {
    throughline().arg("policy").args(arguments).output().unwrap()
}

fn shown() -> String {
    text(&policy(&["show"]).stdout)
}

fn history_lines(path: &Path) -> Vec<Value> {
    let all = lines(&std::fs::read(path).unwrap());
    all.into_iter().filter(|line| line["type"] == "history").collect()
}

#[test]
fn the_shown_policy_is_one_that_can_be_used_as_it_is() {
    let folder = folder();
    let mine = write(&folder, "mine.toml", &shown());
    let checked = policy(&["check", str(&mine)]);
    assert_eq!(code(&checked), 0, "{checked:?}");
    let digest: String = Sha256::digest(shown()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(text(&checked.stdout).contains(&digest), "what sha256sum says: {checked:?}");
    assert_eq!(policy(&["explain", str(&mine)]).stdout, policy(&["explain"]).stdout);
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let outputs = ["a", "b"].map(|name| folder.path().join(name));
    score(&[str(&chats), "-q", "-o", str(&outputs[0])]);
    score(&[str(&chats), "-q", "-o", str(&outputs[1]), "--policy", str(&mine)]);
    assert_eq!(std::fs::read(&outputs[0]).unwrap(), std::fs::read(&outputs[1]).unwrap());
}

#[test]
fn a_mistake_is_told_before_anything_is_read() {
    let folder = folder();
    let mine = write(&folder, "mine.toml", &shown().replace("score_min = 0.28 ", "score_min = 0.9 "));
    let scored = throughline().args(["score", "nothing-here.jsonl", "--policy", str(&mine)]).output().unwrap();
    for output in [policy(&["check", str(&mine)]), policy(&["explain", str(&mine)]), scored] {
        assert_eq!(code(&output), 2);
        let error = text(&output.stderr);
        assert!(error.contains("mine.toml: levels.review.score_min is 0.398, less than watch's 0.9; hint"), "{error}");
    }
    assert_eq!(code(&policy(&["check", "nowhere.toml"])), 2);
}

#[test]
fn no_input_is_written_over_and_no_content_is_told() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let mine = write(&folder, "mine.toml", &shown());
    let refused = score(&[str(&chats), "--policy", str(&mine), "-o", str(&mine)]);
    assert!(code(&refused) == 2 && text(&refused.stderr).contains("would be written over"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), shown());
    for arguments in [["--policy", str(&chats)], ["--config", str(&chats)]] {
        let mistaken = score(&[&[str(&chats)], &arguments[..]].concat());
        let error = text(&mistaken.stderr);
        assert!(code(&mistaken) == 2 && error.contains("line 1") && !error.contains("garden"), "{error}");
    }
}

#[test]
fn a_rule_on_a_category_needs_a_guard_that_names_some() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let rule = "\n[[rules]]\nid = \"s99\"\nwhy = \"a test\"\ncategory = \"S99\"\nlevel = \"senior\"\n";
    let mine = write(&folder, "mine.toml", &(shown() + rule));
    let output = score(&[str(&chats), "--policy", str(&mine)]);
    assert!(code(&output) == 2 && text(&output.stderr).contains("rule s99"), "{output:?}");
}

#[test]
fn explain_says_everything_in_words() {
    let words = text(&policy(&["explain"]).stdout);
    for part in [
        "α = 20% an arc",
        "α = 5% an arc",
        "α = 1% an arc",
        "assistant-feeds-belief",
        "memory-off",
        "the next reply is held",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

#[test]
fn a_policy_decides_levels_and_stands_in_the_output() {
    let folder = folder();
    // Ada comes back after two years, when what there was has faded.
    let later = session("ada", "ada-5", 1, &[("user", "Good morning!")]).replace("2026-03-01", "2028-03-01");
    let chats = write(&folder, "chats.jsonl", &(sessions().concat() + &later));
    let strict = shown()
        .replace("name = \"default\"", "name = \"strict\"")
        .replace("score_min = 0.28 ", "score_min = 0.0 ")
        .replace("score_min = 0.398 ", "score_min = 0.0 ")
        + "\n[[rules]]\nid = \"everyone\"\nwhy = \"a test\"\nscore_min = 0.0001\nlevel = \"senior\"\nmitigations = [\"paid-paused\"]\n";
    let strict = write(&folder, "strict.toml", &strict);
    let out = folder.path().join("out.jsonl");
    let page = folder.path().join("page.html");
    let output = score(&[str(&chats), "-o", str(&out), "--report", str(&page), "--policy", str(&strict)]);
    assert_eq!(code(&output), 0, "{output:?}");
    let run = &lines(&std::fs::read(&out).unwrap())[0];
    assert_eq!((&run["policy"]["name"], &run["policy"]["rules"]), (&"strict".into(), &3.into()));
    for history in history_lines(&out) {
        assert!(history["level"] == "senior" || history["level"] == "urgent", "{history}");
        let rules = history["findings"].as_array().unwrap().iter().filter(|finding| finding["id"] == "everyone");
        assert_eq!(rules.count(), 2, "one an arc: {history}");
        assert!(history["mitigations"].as_array().unwrap().contains(&"paid-paused".into()), "{history}");
    }
    let summary = text(&output.stdout);
    assert!(summary.contains("rule everyone, senior: a test (the harassment arc: session "), "{summary}");
    assert!(summary.contains("policy strict 5"), "{summary}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<strong>everyone</strong>") && page.contains("paid-paused") && page.contains("SHA-256 "));
    // What a score stands for is told beside it: at ½ that is 1 in 99.
    assert!(page.contains("senior from 0.50 (α 1%)") && page.contains("watch from 0.00, "), "{page}");
    for people_read in [&summary, &page] {
        assert!(people_read.contains("α: with a calibrated model at most this share"), "{people_read}");
    }
    let arcs = history_lines(&out).into_iter().flat_map(|history| history["arcs"].as_array().unwrap().clone());
    let mut faded = 0;
    for arc in arcs {
        let (kind, level) = (arc["kind"].as_str().unwrap(), arc["level"].as_str().unwrap());
        let [height, now] = ["score", "score_now"].map(|key| format!("{:.2}", arc[key].as_f64().unwrap()));
        let (told, then) = (format!("       {kind} {level} {height}"), format!("; now {now}"));
        let line = summary.lines().find(|line| line.starts_with(&told) && line.ends_with(&then));
        assert!(level == "none" || line.is_some(), "{told} … {then}: {summary}");
        assert!(page.contains(&format!(", now {now}</h3>")), "{now}");
        faded += usize::from(height != now);
    }
    assert!(faded > 0, "a test that can fail");
}

#[test]
fn simulate_counts_what_score_found() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let out = folder.path().join("out.jsonl");
    score(&[str(&chats), "-q", "-o", str(&out)]);
    let found = history_lines(&out);
    let simulated = policy(&["simulate", str(&out), "--json", "--base-rate", "0.01"]);
    assert_eq!(code(&simulated), 0, "{simulated:?}");
    let outcome = &lines(&simulated.stdout)[0];
    assert_eq!(outcome["users"], found.len());
    for pair in outcome["levels"].as_array().unwrap() {
        let users = found.iter().filter(|history| history["level"] == pair["level"]).count();
        assert_eq!(pair["users"], users, "{pair}");
    }
    assert_eq!(outcome["load"]["days"], 4, "1 to 4 March");
    assert!(outcome["positive_predictive_value"]["value"].is_number(), "{outcome}");
    // A second policy beside the first, in words.
    let lax = write(
        &folder,
        "lax.toml",
        &shown().replace("name = \"default\"", "name = \"lax\"").replace("imminent_min = 0.3 ", "imminent_min = 1.0 "),
    );
    let words = text(&policy(&["simulate", str(&out), "--policy", str(&lax), "--policy", str(&lax)]).stdout);
    assert_eq!(words.matches("policy lax 5").count(), 2, "{words}");
    assert!(words.contains("of the 4 days"), "{words}");
}

#[test]
fn simulate_refuses_what_is_not_whole() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let out = folder.path().join("out.jsonl");
    score(&[str(&chats), "-q", "-o", str(&out)]);
    let whole = std::fs::read_to_string(&out).unwrap();
    let cut: String = whole.lines().take(5).map(|line| format!("{line}\n")).collect();
    let swapped = whole.replacen("\"user_id\":\"ada\"", "\"user_id\":\"eve\"", 1);
    let nothing = whole.replacen("\"harassment\":[", "\"harassment\":[0.0,0.0,0.0,0.0],\"was\":[", 1);
    let later = whole.replacen("\"schema_version\":1", "\"schema_version\":2", 1);
    let users = whole.replacen("\"type\":\"summary\",\"users\":3", "\"type\":\"summary\",\"users\":4", 1);
    let twice = whole.clone() + &whole;
    for (name, content) in [("cut", cut), ("eve", swapped), ("0", nothing), ("v2", later), ("4", users), ("2x", twice)]
    {
        assert_ne!(content, whole, "{name}");
        let path = write(&folder, name, &content);
        let output = policy(&["simulate", str(&path)]);
        assert_eq!(code(&output), 2, "{name}: {output:?}");
        assert!(text(&output.stderr).contains("hint"), "{name}: {output:?}");
    }
    assert_eq!(code(&policy(&["simulate", str(&chats)])), 2);
    let output = policy(&["simulate", str(&out), "--base-rate", "2"]);
    assert!(code(&output) == 2 && text(&output.stderr).contains("--base-rate is 2"), "{output:?}");
}

/// A file as `score --output` writes it: of each list a user, with a message at each of its levels of harassment.
fn scored(folder: &tempfile::TempDir, users: &[&[usize]]) -> std::path::PathBuf {
    let model = serde_json::json!({
        "name": "m", "version": null, "sha256": "00", "source": "s", "reading": "heads", "device": "cpu", "dtype": "f32",
    });
    let mut lines = vec![serde_json::json!({"type": "run", "schema_version": 1, "model": model})];
    for (number, levels) in users.iter().enumerate() {
        for (index, level) in levels.iter().enumerate() {
            let mut harassment = [0.0; 4];
            harassment[*level] = 1.0;
            lines.push(serde_json::json!({
                "type": "message", "user_id": format!("u{number}"), "session_index": 0, "message_index": index, "role": "user",
                "harassment": harassment, "delusion": [1.0, 0.0, 0.0, 0.0], "stance": [0.0, 1.0, 0.0, 0.0], "imminent": 0.0,
            }));
        }
        lines.push(serde_json::json!({"type": "history", "user_id": format!("u{number}")}));
    }
    lines.push(serde_json::json!({"type": "summary", "users": users.len()}));
    let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
    write(folder, "scored.jsonl", &content)
}

#[test]
fn simulate_tells_whether_the_promise_of_few_false_alarms_rests_on_something() {
    let folder = folder();
    let told = |users: &[&[usize]]| {
        let file = scored(&folder, users);
        let (words, json) = (policy(&["simulate", str(&file)]), policy(&["simulate", str(&file), "--json"]));
        assert_eq!((code(&words), code(&json)), (0, 0), "{words:?} {json:?}");
        (text(&words.stdout), lines(&json.stdout)[0]["mean_e_value"].clone())
    };
    let (words, json) = told(&[&[0, 0], &[0], &[0]]);
    // 0.7 + 0.3 · 0.345 / 0.930, and of delusion 0.7 + 0.3 · 0.314 / 0.950.
    assert!(words.contains("harassment        0.811 [0.811, 0.811]: not above 1"), "{words}");
    assert!(words.contains("delusion          0.799 [0.799, 0.799]: not above 1"), "{words}");
    for (arc, by_hand) in [("harassment", 0.811_290), ("delusion", 0.799_158)] {
        for bound in ["value", "low", "high"] {
            assert!((json[arc][bound].as_f64().unwrap() - by_hand).abs() < 1e-5, "{arc} {bound}: {json}");
        }
    }
    let (words, _) = told(&[&[2, 2], &[2], &[2]]);
    // 0.7 + 0.3 · 0.471 / 0.005.
    assert!(words.contains("harassment        28.960 [28.960, 28.960]: above 1, so α does not hold"), "{words}");
    assert!(words.contains("delusion          0.799 [0.799, 0.799]: not above 1"), "{words}");
    let (words, json) = told(&[&[2]]);
    assert!(words.contains("harassment        28.960: not told apart from 1 by these users"), "{words}");
    assert!(json["harassment"]["value"].is_number() && json["harassment"]["low"].is_null(), "{json}");
    let (words, json) = told(&[]);
    assert!(words.contains("harassment        -: not told apart"), "{words}");
    assert!(json["delusion"]["value"].is_null(), "{json}");
}

#[test]
fn the_promise_is_told_once_beside_several_policies() {
    let folder = folder();
    let (file, mine) = (scored(&folder, &[&[0], &[0, 1]]), write(&folder, "mine.toml", &shown()));
    let words = text(&policy(&["simulate", str(&file), "--policy", str(&mine), "--policy", str(&mine)]).stdout);
    assert_eq!((words.matches("policy default").count(), words.matches("mean e-value").count()), (2, 1), "{words}");
    let json =
        lines(&policy(&["simulate", str(&file), "--json", "--policy", str(&mine), "--policy", str(&mine)]).stdout);
    assert_eq!(json.len(), 2);
    assert_eq!(json[0]["mean_e_value"], json[1]["mean_e_value"]);
}
