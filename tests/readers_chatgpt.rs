//! The ChatGPT reader against a second implementation of the active branch, in Python.
#![cfg(feature = "readers")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};
use throughline::transcript::read::{Source, load};

/// A small generator of numbers (Knuth's MMIX constants), the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn words(&mut self) -> String {
        const WORDS: [&str; 10] =
            ["bread", "river", "naïve", "\"quoted\"", "line\nbreak", "日本", "}{][", "\\", "", " "];
        let count = self.roll(6);
        (0..count).map(|_| WORDS[self.roll(10) as usize]).collect::<Vec<_>>().join(" ")
    }
}

fn parts(dice: &mut Dice) -> Value {
    let count = 1 + dice.roll(3);
    let part = |dice: &mut Dice| match dice.roll(8) {
        0 => json!({"content_type": "image_asset_pointer", "asset_pointer": "file-service://a"}),
        1 => json!({"content_type": "audio_asset_pointer", "asset_pointer": "file-service://b"}),
        2 => json!({"content_type": "audio_transcription", "text": dice.words()}),
        _ => Value::String(dice.words()),
    };
    Value::Array((0..count).map(|_| part(dice)).collect())
}

fn content(dice: &mut Dice) -> Value {
    match dice.roll(14) {
        0 => json!({"content_type": "code", "language": "unknown", "text": dice.words()}),
        1 => json!({"content_type": "execution_output", "text": dice.words()}),
        2 => json!({"content_type": "tether_quote", "url": "u", "text": dice.words()}),
        3 => {
            json!({"content_type": "tether_browsing_display", "result": dice.words(), "summary": null})
        }
        4 => {
            json!({"content_type": "thoughts", "thoughts": [{"summary": "s", "content": dice.words()}]})
        }
        5 => json!({"content_type": "reasoning_recap", "content": dice.words()}),
        6 => {
            json!({"content_type": "user_editable_context", "user_profile": dice.words(), "user_instructions": "x"})
        }
        7 | 8 => json!({"content_type": "multimodal_text", "parts": parts(dice)}),
        _ => json!({"content_type": "text", "parts": [dice.words()]}),
    }
}

fn message(dice: &mut Dice, time: f64) -> Value {
    if dice.one_in(12) {
        return Value::Null;
    }
    let role = ["user", "assistant", "user", "assistant", "system", "tool"][dice.roll(6) as usize];
    let mut metadata = Map::new();
    if dice.one_in(8) {
        metadata.insert("is_visually_hidden_from_conversation".into(), json!(!dice.one_in(3)));
    }
    if dice.one_in(6) {
        let picture = json!({"name": "a.png", "mime_type": "image/png"});
        let file = json!({"name": "b c.pdf", "mime_type": "application/pdf"});
        metadata.insert("attachments".into(), json!([picture, file]));
    }
    let mut out = json!({
        "author": {"role": role}, "content": content(dice), "metadata": metadata,
        "create_time": if dice.one_in(9) { Value::Null } else { json!(time) },
    });
    match dice.roll(6) {
        0 => out["recipient"] = json!("browser"),
        1 => {}
        _ => out["recipient"] = json!("all"),
    }
    out
}

/// A tree of nodes with edits and regenerated answers, sometimes broken.
fn conversation(number: u64, dice: &mut Dice) -> Value {
    let count = 1 + dice.roll(25);
    let mut mapping = Map::new();
    for at in 0..count {
        let parent = match at {
            0 => Value::Null,
            _ if dice.one_in(4) => json!(format!("n{}", dice.roll(at))),
            _ => json!(format!("n{}", at - 1)),
        };
        let time = 1_700_000_000.0 + (number * 1000 + at) as f64 + 0.25;
        let node = json!({"id": format!("n{at}"), "parent": parent, "children": [], "message": message(dice, time)});
        mapping.insert(format!("n{at}"), node);
    }
    let somewhere = |dice: &mut Dice| format!("n{}", dice.roll(count));
    let broken = somewhere(dice);
    match dice.roll(10) {
        0 => mapping[&broken]["parent"] = json!("missing"),
        1 => mapping[&broken]["parent"] = json!(somewhere(dice)),
        _ => {}
    }
    let current = match dice.roll(8) {
        0 => Value::Null,
        1 => json!("missing"),
        _ => json!(somewhere(dice)),
    };
    json!({"title": "t", "id": format!("c{number}"), "current_node": current, "mapping": mapping,
           "create_time": 1_700_000_000.5 + number as f64})
}

type Texts = BTreeMap<String, Vec<(String, String)>>;

fn by_script(export: &Path) -> Option<Texts> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/chatgpt_active_branch.py");
    let run = match Command::new("python3").arg(script).arg(export).output() {
        Ok(run) => run,
        Err(e) => {
            eprintln!("SKIPPED: python3 does not run here ({e}), the ChatGPT reader was not compared");
            return None;
        }
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut out = Texts::new();
    for line in String::from_utf8(run.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let pairs: Vec<(String, String)> = serde_json::from_value(line["messages"].clone()).unwrap();
        if !pairs.is_empty() {
            out.insert(line["id"].as_str().unwrap().to_owned(), pairs);
        }
    }
    Some(out)
}

#[test]
fn the_active_branch_is_the_one_that_a_second_implementation_walks() {
    let dir = tempfile::tempdir().unwrap();
    let export = dir.path().join("conversations.json");
    let mut dice = Dice(20_260_301);
    let all: Vec<Value> = (0..200).map(|number| conversation(number, &mut dice)).collect();
    std::fs::write(&export, serde_json::to_string_pretty(&all).unwrap()).unwrap();
    let Some(expected) = by_script(&export) else {
        return;
    };

    let corpus = load(&Source::new([&export]), &mut |_| {}).unwrap();
    let mut got = Texts::new();
    for session in corpus.history(0).unwrap().sessions {
        let pairs = session.messages.into_iter().map(|m| (m.role.as_str().to_owned(), m.content));
        got.insert(session.session_id, pairs.collect());
    }
    assert!(expected.len() > 150, "the generated export says too little: {}", expected.len());
    assert_eq!(got.len(), expected.len());
    for (id, pairs) in &expected {
        assert_eq!(got.get(id), Some(pairs), "conversation {id}");
    }
    let s = corpus.summary();
    assert_eq!((s.records, s.sessions), (200, expected.len() as u64));
    assert!(s.kept_apart > 50 && s.other_branches > 50, "{s:?}");
}
