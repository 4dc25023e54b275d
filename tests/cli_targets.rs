//! Toward whom: what `score` says of people, and `benchmark --targets` of how well.

#![cfg(feature = "cli")]

mod cli_support;

use cli_support::{code, folder, lines, score, session, str, text, throughline, write};
use serde_json::Value;

const AUTHOR: &str = "\
=== ada-01 | kind=mundane | style=short
--- 2026-03-01T20:11
U h0 d0: My landlady kept the deposit. Her name is Ottoline Marsh.
A s0: I see.
--- 2026-03-04T23:40
U h0 d0: Ottoline was out. I like soup.
";
const PEOPLE: &str = "\
=== ada-01
p1 target | Ottoline Marsh, landlady
1.1 @p1 p1=\"My landlady\" p1=\"Ottoline Marsh\"
2.1 @p1 p1=\"Ottoline\"
";

#[test]
fn the_benchmark_says_how_well_people_are_told_apart() {
    let folder = folder();
    let file = write(&folder, "ada.txt", AUTHOR);
    std::fs::create_dir(folder.path().join("targets")).unwrap();
    write(&folder, "targets/ada.txt", PEOPLE);
    let targets = folder.path().join("targets");
    let run = |more: &[&str]| {
        let asked = ["benchmark", str(&file), "--split", "all", "--model", "none", "--samples", "20"];
        throughline().args(asked).args(["--targets", str(&targets)]).args(more).output().unwrap()
    };
    let shown = run(&[]);
    assert_eq!(code(&shown), 0, "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("people of 1 histories: 1 people, 3 mentions"), "{}", text(&shown.stdout));
    let figures: Value = serde_json::from_slice(&run(&["-o", "-"]).stdout).unwrap();
    let schema = serde_json::from_str(include_str!("../schemas/benchmark.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&figures), "{:?}", validator.iter_errors(&figures).next());
    let toward = &figures["sets"][0]["toward"];
    assert_eq!(toward["systems"][0]["figures"]["b_cubed_f1"]["value"], 1.0);
    let inputs = figures["manifest"]["inputs"].as_array().unwrap();
    assert!(inputs.iter().any(|one| one["path"].as_str().unwrap().ends_with("targets/ada.txt")), "{inputs:?}");
}

/// A user who speaks of two people in three sessions; the tiny model sees something in every message.
fn chats(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let said = [
        ["My landlady Ottoline kept the deposit.", "I hate her and will ruin her."],
        ["I call her the Heron now.", "The heron left at six and I followed."],
        ["I met Barnaby, who lied to me. He laughed.", "He will be sorry."],
    ];
    let record = |(number, [first, second]): (usize, &[&str; 2])| {
        let messages = [("user", *first), ("assistant", "I see."), ("user", *second)];
        session("ada", &format!("s{number}"), number + 1, &messages)
    };
    write(folder, "chats.jsonl", &said.iter().enumerate().map(record).collect::<String>())
}

/// The lines of `score`, which fit the schema, and the history's targets.
fn scored(arguments: &[&str]) -> Vec<Value> {
    let output = score(&[arguments, &["-o", "-"]].concat());
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let schema = serde_json::from_str(include_str!("../schemas/score.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let all = lines(&output.stdout);
    for line in &all {
        assert!(validator.is_valid(line), "{line}: {:?}", validator.iter_errors(line).next());
    }
    let history = all.into_iter().find(|line| line["type"] == "history").unwrap();
    history["targets"].as_array().unwrap().clone()
}

#[test]
fn evidence_is_divided_among_the_people_it_is_toward() {
    let folder = folder();
    let targets = scored(&[str(&chats(&folder))]);
    let of = |label: &str| targets.iter().find(|one| one["label"] == label).unwrap_or_else(|| panic!("{targets:?}"));
    let (landlady, barnaby) = (of("My landlady"), of("Barnaby"));
    assert_eq!((landlady["messages"].as_u64(), landlady["mentions"].as_u64()), (Some(4), Some(4)));
    assert_eq!(landlady["first"]["session_id"], "s0");
    assert_eq!(landlady["last"]["session_id"], "s1");
    assert_eq!(barnaby["messages"].as_u64(), Some(2));
    let sum: f64 = targets.iter().map(|one| one["harassment_share"].as_f64().unwrap()).sum();
    assert!(sum > 0.5 && sum < 1.0001, "{targets:?}");
}

#[test]
fn people_see_toward_whom_unless_that_is_not_to_be_told() {
    let folder = folder();
    let (chats, page) = (chats(&folder), folder.path().join("report.html"));
    let shown = |more: &[&str]| {
        let output = score(&[&[str(&chats), "--report", str(&page)], more].concat());
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        [text(&output.stdout), std::fs::read_to_string(&page).unwrap()]
    };
    let [summary, report] = shown(&[]);
    assert!(
        summary.contains("toward My landlady: ") && report.contains("<td dir=\"auto\">My landlady</td>"),
        "{summary}"
    );
    for option in ["--pseudonymous-targets", "--redact"] {
        let [summary, report] = shown(&[option]);
        assert!(
            summary.contains("toward person 1: ") && report.contains("<td dir=\"auto\">person 1</td>"),
            "{summary}"
        );
        assert!(!summary.contains("toward My landlady"), "{summary}");
        let targets = scored(&[str(&chats), option]);
        let numbered = |one: &Value| one["label"].as_str() == Some(&format!("person {}", one["id"]));
        assert!(!targets.is_empty() && targets.iter().all(numbered), "{targets:?}");
    }
}
