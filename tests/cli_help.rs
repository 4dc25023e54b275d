//! What the binary says of itself.

#![cfg(feature = "cli")]

mod cli_support;

use cli_support::{EXAMPLES, MODEL, code, folder, lines, text, throughline};

const COMMANDS: [&[&str]; 13] = [
    &[],
    &["score"],
    &["benchmark"],
    &["model"],
    &["model", "info"],
    &["model", "verify"],
    &["model", "speed"],
    &["policy"],
    &["policy", "show"],
    &["policy", "check"],
    &["policy", "explain"],
    &["policy", "simulate"],
    &["completions"],
];

#[test]
fn every_command_has_help_with_an_example() {
    for command in COMMANDS {
        let output = throughline().args(command).arg("--help").output().unwrap();
        let help = text(&output.stdout);
        assert_eq!(code(&output), 0, "{command:?}");
        assert!(help.contains("EXAMPLE\n  throughline"), "{command:?}: {help}");
        assert!(help.contains("Usage: throughline"), "{command:?}: {help}");
    }
}

/// At a terminal of 80 columns nothing after the options is wrapped in the middle of a line.
#[test]
fn what_follows_the_options_fits_into_80_columns() {
    for command in COMMANDS {
        let help = text(&throughline().args(command).arg("--help").output().unwrap().stdout);
        let long: Vec<&str> =
            help.lines().skip_while(|line| *line != "EXAMPLE").filter(|line| line.chars().count() > 80).collect();
        assert_eq!(long, [""; 0], "{command:?}");
    }
}

#[test]
fn the_formats_stand_in_the_help_of_score() {
    let help = |command: &str| text(&throughline().args([command, "--help"]).output().unwrap().stdout);
    assert!(help("score").contains("ShareGPT, WildChat"), "{}", help("score"));
    assert!(help("benchmark").contains("bootstrap interval"), "{}", help("benchmark"));
}

#[test]
fn exit_codes_and_settings_stand_in_the_help_of_score() {
    let help = text(&throughline().args(["score", "--help"]).output().unwrap().stdout);
    for needed in ["EXIT CODES", "--strict", "THROUGHLINE_FAIL_AT", "--csv-user", "--config", "An option beats"] {
        assert!(help.contains(needed), "{needed}: {help}");
    }
}

#[test]
fn the_version_needs_no_model() {
    let output = throughline().env("THROUGHLINE_MODEL", "nowhere").arg("--version").output().unwrap();
    assert_eq!((code(&output), text(&output.stdout)), (0, format!("throughline {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = throughline().args(["completions", shell]).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains("fail-at"), "{shell}");
    }
    assert_eq!(code(&throughline().args(["completions", "cmd"]).output().unwrap()), 2);
}

#[test]
fn a_model_tells_what_it_is() {
    let output = throughline().args(["model", "info", "--model", MODEL, "--json"]).output().unwrap();
    let info = lines(&output.stdout).remove(0);
    assert_eq!(info["name"], "tiny-heads");
    assert_eq!(info["message_heads"], true);
    let output = throughline().args(["model", "info", "--model", MODEL]).output().unwrap();
    assert!(text(&output.stdout).contains(info["sha256"].as_str().unwrap()));
}

#[test]
fn a_wrong_digest_is_found() {
    let verify = |digest: &str| {
        throughline().args(["model", "verify", "--json", "--model", MODEL, "--sha256", digest]).output().unwrap()
    };
    let output = verify(&"0".repeat(64));
    let found = lines(&output.stdout).remove(0);
    assert_eq!((code(&output), &found["passed"], &found["checks"][0]["passed"]), (2, &false.into(), &false.into()));
    let output = throughline().args(["model", "info", "--model", MODEL, "--json"]).output().unwrap();
    let digest = lines(&output.stdout).remove(0)["sha256"].as_str().unwrap().to_uppercase();
    assert_eq!(lines(&verify(&digest).stdout)[0]["checks"][0]["passed"], true);
    let output = verify("12");
    assert!(code(&output) == 2 && text(&output.stderr).contains("64 hexadecimal"), "{output:?}");
}

/// The recorded digest is that of the weights that are embedded.
#[test]
#[cfg(feature = "embedded-model")]
fn the_embedded_weights_are_the_recorded_ones() {
    let output = throughline().args(["model", "verify", "--json"]).output().unwrap();
    let found = lines(&output.stdout).remove(0);
    assert_eq!(found["checks"][0]["name"], "digest");
    assert_eq!(found["checks"][0]["passed"], true, "{found:#}");
}

#[test]
fn speed_tells_every_shape() {
    let arguments = ["model", "speed", "--model", MODEL, "--shape", "1x64", "--shape", "3x17", "--threads", "1"];
    let output = throughline().args(arguments).arg("--json").output().unwrap();
    let speed = lines(&output.stdout).remove(0);
    assert_eq!(speed["threads"], 1);
    assert_eq!(speed["shapes"][1]["sequences"], 3);
    assert!(speed["shapes"][1]["tokens_per_second"].as_f64().unwrap() > 0.0);
    let output = throughline().args(["model", "speed", "--model", MODEL, "--shape", "1x99999"]).output().unwrap();
    let error = text(&output.stderr);
    assert_eq!(code(&output), 2);
    assert!(error.contains("99999") && error.contains("2048") && error.contains("hint"), "{error}");
}

#[test]
fn the_examples_show_every_kind_of_reader() {
    let folder = folder();
    let out = folder.path().join("scores.jsonl");
    let output = cli_support::score(&[EXAMPLES, "-q", "--output", cli_support::str(&out)]);
    assert_eq!(code(&output), 0, "{output:?}");
    let scores = lines(&std::fs::read(out).unwrap());
    let summary = scores.last().unwrap();
    assert_eq!((&summary["users"], &summary["left_out"]), (&9.into(), &0.into()));
}
