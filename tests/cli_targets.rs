//! Toward whom: what `benchmark --targets` says of people.

#![cfg(feature = "cli")]

mod cli_support;

use cli_support::{code, folder, str, text, throughline, write};
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
