//! Several models that read the same.

#![cfg(feature = "embedded-model")]

use std::path::Path;

use cli_support::{EXAMPLES, MODEL, code, folder, lines, str, text, throughline, write};
use serde_json::Value;

mod cli_support;

const LEVELS: [&str; 5] = ["none", "watch", "review", "senior", "urgent"];

fn score(models: &[&str], path: &Path, more: &[&str]) -> std::process::Output {
    let mut command = throughline();
    command.args(["score", str(path), "-q"]).args(more);
    for model in models {
        command.args(["--model", model]);
    }
    command.output().unwrap()
}

fn json(models: &[&str], path: &Path) -> Vec<Value> {
    let output = score(models, path, &["-o", "-"]);
    assert_eq!(code(&output), 0, "{output:?}");
    lines(&output.stdout)
}

/// The fields of a line, but for these.
fn without(line: &Value, fields: &[&str]) -> Value {
    let mut line = line.clone();
    for field in fields {
        line.as_object_mut().unwrap().remove(*field);
    }
    line
}

fn height(level: &Value) -> usize {
    LEVELS.iter().position(|name| level == name).unwrap()
}

#[test]
fn each_says_what_it_says_alone_and_the_highest_level_counts() {
    let chats = Path::new(EXAMPLES).join("marisol");
    let both = json(&["embedded", MODEL], &chats);
    let alone = [json(&["embedded"], &chats), json(&[MODEL], &chats)];
    assert_eq!(both[0]["model"], alone[0][0]["model"]);
    assert_eq!(both[0]["other_models"], Value::Array(vec![alone[1][0]["model"].clone()]));
    assert!(alone[0][0]["other_models"].is_null());
    let (mut apart, mut scores) = (0, 0);
    for ((line, first), second) in both.iter().zip(&alone[0]).zip(&alone[1]) {
        match line["type"].as_str().unwrap() {
            "message" => {
                assert_eq!(without(line, &["others"]), *first);
                for (field, said) in line["others"][0].as_object().unwrap() {
                    assert_eq!(*said, second[field]);
                    scores += 1;
                }
            }
            "history" => {
                let [own, other] = [first, second].map(|line| height(&line["level"]));
                assert_eq!(height(&line["level"]), own.max(other));
                assert_eq!(height(&line["agreed_level"]), own.min(other));
                assert_eq!((&line["own_level"], &line["others"][0]["level"]), (&first["level"], &second["level"]));
                assert_eq!(line["disagrees"], own.max(other) >= 2 && own.min(other) == 0);
                for field in ["arcs", "findings", "targets", "notes"] {
                    assert_eq!(line[field], first[field]);
                    assert_eq!(line["others"][0][field], second[field]);
                }
                apart += usize::from(own != other);
            }
            _ => {}
        }
    }
    assert!(apart > 0 && scores > 0, "a test of something: {apart} {scores}");
    let schema: Value = serde_json::from_str(include_str!("../schemas/score.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for line in &both {
        let errors: Vec<String> = validator.iter_errors(line).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0], "{line}");
    }
}

/// Which of several to judge nobody said: it would be the first, in silence.
#[test]
fn what_several_said_is_not_judged_as_if_one_had() {
    let folder = folder();
    let scores = folder.path().join("scores.jsonl");
    let output = score(&["embedded", MODEL], &Path::new(EXAMPLES).join("marisol"), &["-o", str(&scores)]);
    assert_eq!(code(&output), 0, "{output:?}");
    for command in [&["policy", "simulate", str(&scores)][..], &["benchmark", "datasets/arcs", "--from", str(&scores)]]
    {
        let output = throughline().args(command).output().unwrap();
        assert_ne!(code(&output), 0, "{output:?}");
        assert!(text(&output.stderr).contains("scores by several models"), "{output:?}");
    }
}

#[test]
fn people_are_told_what_each_says() {
    let (folder, chats) = (folder(), Path::new(EXAMPLES).join("support.csv"));
    let page = folder.path().join("page.html");
    let output = score(&["embedded", MODEL], &chats, &["--report", str(&page)]);
    assert_eq!(code(&output), 0, "{output:?}");
    let (shown, page) = (text(&output.stdout), std::fs::read_to_string(page).unwrap());
    let name = lines(&score(&[MODEL], &chats, &["-o", "-"]).stdout)[0]["model"]["name"].as_str().unwrap().to_owned();
    for model in ["throughline-guard", &name] {
        assert!(shown.contains(&format!("by {model}")) && shown.contains(&format!("model {model}")), "{shown}");
        assert!(page.contains(&format!("<td>{model}")) && page.contains(&format!("<dd>{model}")));
    }
    assert!(shown.contains("2 times α") && page.contains("2 times α"), "{shown}");
    assert!(shown.contains("shown above") && page.contains("What each model says"), "{shown}");
    let one = text(&score(&[MODEL], &chats, &[]).stdout);
    assert!(!one.contains("by ") && !one.contains("disagree"), "{one}");
}

#[test]
fn the_same_model_twice_is_refused() {
    let chats = Path::new(EXAMPLES).join("support.csv");
    let output = score(&[MODEL, MODEL], &chats, &[]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("named twice"), "{output:?}");
}

/// What is said of a verdict in words is said to those that answer in words.
#[test]
fn heads_and_words_are_read_beside_each_other() {
    let folder = folder();
    let name = b"throughline.heads";
    let mut model = std::fs::read(MODEL).unwrap();
    let at = model.windows(name.len()).position(|window| window == name).unwrap();
    model[at] = b'T';
    let in_words = folder.path().join("words.gguf");
    std::fs::write(&in_words, model).unwrap();
    let category = |id, risk| format!("[[category]]\nid = \"{id}\"\ntitle = \"a\"\nrisk = \"{risk}\"\n");
    let list = format!("list = \"replace\"\n{}{}", category("S1", "harassment"), category("S2", "delusion"));
    let categories = write(&folder, "categories.toml", &list);
    let chats = write(&folder, "chats.jsonl", &cli_support::session("ada", "s", 1, &[("user", "Good morning.")]));
    let said = ["--guard", "llama-guard-1", "--categories", str(&categories), "-o", "-"];
    let output = score(&[MODEL, str(&in_words)], &chats, &said);
    let run = &lines(&output.stdout)[0];
    assert_eq!(
        (&run["model"]["reading"], &run["other_models"][0]["reading"]),
        (&"heads".into(), &"llama-guard-1".into())
    );
    // The second refuses to judge: its `none` says nothing, and that is an error as it is of one alone.
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(text(&output.stderr).contains("judged no message") || text(&output.stderr).contains("refused to judge"));
}
