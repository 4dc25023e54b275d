//! `throughline score`: exit codes, settings, and what the output must not depend on.

#![cfg(feature = "cli")]

mod cli_support;

use cli_support::{MODEL, calm_policy, code, folder, lines, score, session, sessions, str, text, throughline, write};
use serde_json::Value;

#[test]
fn exit_codes_follow_the_level_asked_for() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    // By it the tiny model finds `senior` in everything.
    let calm = calm_policy(&folder);
    for (arguments, expected) in [
        (&[][..], 0),
        (&["--fail-at", "urgent"], 0),
        (&["--fail-at", "senior"], 1),
        (&["--fail-at", "watch"], 1),
        (&["--fail-at", "high"], 2),
        // Every history is at `none` or above.
        (&["--fail-at", "none"], 2),
        (&["--nothing"], 2),
    ] {
        let output = score(&[&[str(&chats), "--policy", str(&calm)], arguments].concat());
        assert_eq!(code(&output), expected, "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn errors_name_the_value_and_a_hint_and_leave_standard_output_alone() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let config = write(&folder, "wrong.toml", "modell = 'x'\n");
    let cases: [(&[&str], &[&str]); 10] = [
        (&["nowhere.jsonl"], &["nowhere.jsonl", "hint"]),
        (&[str(&chats), "--model", "no/such/model"], &["no/such/model", "hint"]),
        (&[str(&chats), "--window-tokens", "100"], &["100", "hint"]),
        (&[str(&chats), "--window-tokens", "999999"], &["999999", "2048", "hint"]),
        (&[str(&chats), "--threads", "0"], &["0", "1024", "hint"]),
        (&[str(&chats), "--config", str(&config)], &["modell", "unknown field"]),
        (&[str(&chats), "--guard", "llama-guard-9"], &["message heads"]),
        (&[str(&chats), "--output", "no/such/folder/o.jsonl"], &["no/such/folder", "hint"]),
        (&[str(&chats), "--report", "-"], &["hint: --report FILE.html"]),
        (&[str(&chats), "--fail-at", "none"], &["none", "hint: --fail-at watch"]),
    ];
    for (arguments, says) in cases {
        let output = throughline().args(["score"]).args(arguments).env("THROUGHLINE_MODEL", MODEL).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!((code(&output), output.stdout.len()), (2, 0), "{arguments:?}: {error}");
        assert!(says.iter().all(|says| error.contains(says)), "{arguments:?}: {error}");
    }
}

#[test]
fn what_could_not_be_read_is_told_and_counted() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &format!("{}{{\"oops\n", sessions().concat()));
    let output = score(&[str(&chats)]);
    assert_eq!(code(&output), 0);
    assert!(text(&output.stderr).contains("chats.jsonl:13: left out"), "{output:?}");
    assert!(text(&output.stdout).contains("left out: 1\n"), "{output:?}");
    let strict = score(&[str(&chats), "--strict", "-q"]);
    assert_eq!((code(&strict), text(&strict.stderr).lines().count()), (2, 1), "{strict:?}");
    assert!(text(&strict.stderr).contains("error: --strict"), "{strict:?}");
    let quiet = score(&[str(&chats), "-q"]);
    assert_eq!(text(&quiet.stderr), "");
    let nothing = write(&folder, "nothing.jsonl", "{\"oops\n");
    let output = score(&[str(&nothing)]);
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("1 of 1 records left out"), "{output:?}");
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let config = write(&folder, "settings.toml", "fail_at = 'urgent'\nquiet = true\n");
    let calm = calm_policy(&folder);
    let run = |environment: Option<&str>, flag: &[&str]| {
        let mut command = throughline();
        command.args(["score", "--model", MODEL, str(&chats), "--config", str(&config)]).args(flag);
        command.args(["--policy", str(&calm)]);
        command.envs(environment.map(|level| ("THROUGHLINE_FAIL_AT", level)));
        code(&command.output().unwrap())
    };
    assert_eq!(run(None, &[]), 0);
    assert_eq!(run(Some("senior"), &[]), 1);
    assert_eq!(run(Some("senior"), &["--fail-at", "urgent"]), 0);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &session("ada", "a", 1, &[("user", "hello")]));
    let help = text(&throughline().args(["score", "--help"]).output().unwrap().stdout);
    let names: Vec<&str> = help
        .split("[env: ")
        .skip(1)
        .map(|rest| rest.split_once('=').unwrap().0)
        .filter(|n| *n != "THROUGHLINE_MODEL")
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let mut command = throughline();
        let output = command.args(["score", "--model", MODEL, str(&chats)]).env(name, "").output().unwrap();
        assert_eq!(code(&output), 0, "{name}: {}", text(&output.stderr));
    }
}

/// NaN compares as less than every threshold: unnoticed, it would be level none.
#[test]
fn weights_that_are_not_numbers_are_an_error() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &session("ada", "a", 1, &[("user", "hello"), ("assistant", "yes")]));
    let model = std::fs::read(MODEL).unwrap();
    let nan = f32::NAN.to_le_bytes();
    // From the end: the weights of the head `imminent`, and of the last norm, which every answer goes through.
    for (from_end, heads) in [(160, true), (768, true), (768, false)] {
        let mut model = if heads { model.clone() } else { without_heads(&model) };
        let at = model.len() - from_end;
        model[at..at + 4].copy_from_slice(&nan);
        let (path, categories) = guard_files(&folder, &model);
        let guard = ["--guard", "llama-guard-1", "--categories", str(&categories)];
        let reading = if heads { &[][..] } else { &guard[..] };
        let output = throughline().args(["score", str(&chats), "--model", str(&path)]).args(reading).output().unwrap();
        assert_eq!(code(&output), 2, "{from_end} {heads}: {output:?}");
        let error = text(&output.stderr);
        assert!(error.contains("not finite; hint") && error.contains("user ada"), "{from_end} {heads}: {error}");
    }
}

/// A guard that puts nothing on its verdicts refuses every message, which is no clean history.
#[test]
fn a_guard_that_refuses_everything_is_an_error_at_the_end() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &session("ada", "a", 1, &[("user", "hello"), ("assistant", "yes")]));
    let (path, categories) = guard_files(&folder, &without_heads(&std::fs::read(MODEL).unwrap()));
    let mut command = throughline();
    command.args(["score", str(&chats), "--model", str(&path), "--guard", "llama-guard-1"]);
    let output = command.args(["--categories", str(&categories), "-q"]).output().unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.contains("refused to judge: 2") && shown.contains("judged no message"), "{shown}");
    assert!(error.contains("every message of 1 of 1 histories") && error.contains("hint"), "{error}");
}

/// The tiny model as one that answers in words.
fn without_heads(model: &[u8]) -> Vec<u8> {
    let name = b"throughline.heads";
    let at = model.windows(name.len()).position(|window| window == name).unwrap();
    let mut model = model.to_vec();
    model[at] = b'T';
    model
}

/// A model, and categories short enough for its window.
fn guard_files(folder: &tempfile::TempDir, model: &[u8]) -> (std::path::PathBuf, std::path::PathBuf) {
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, model).unwrap();
    let category = |id, risk| format!("[[category]]\nid = \"{id}\"\ntitle = \"a\"\nrisk = \"{risk}\"\n");
    let categories = format!("list = \"replace\"\n{}{}", category("S1", "harassment"), category("S2", "delusion"));
    (path, write(folder, "categories.toml", &categories))
}

#[test]
fn every_line_follows_the_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/score.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let folder = folder();
    let quiet = session("dee", "dee-1", 1, &[("user", "?")]);
    let chats = write(&folder, "chats.jsonl", &(sessions().concat() + &quiet));
    let found = lines(&score(&[str(&chats), "-o", "-", "-q"]).stdout);
    for line in &found {
        let errors: Vec<String> = validator.iter_errors(line).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0], "{line}");
    }
    let kinds: Vec<&str> = found.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("run", "summary"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "message").count(), 3 * 4 * 3 + 1);
    assert_eq!(kinds.iter().filter(|kind| **kind == "history").count(), 4);
    let fields_without_a_word = undocumented(&schema, "");
    assert_eq!(fields_without_a_word, [""; 0]);
}

/// Fields of the schema without a description.
fn undocumented(schema: &Value, path: &str) -> Vec<String> {
    let Some(object) = schema.as_object() else { return Vec::new() };
    let mut out = Vec::new();
    for (name, inner) in object {
        let path = format!("{path}/{name}");
        if path.ends_with("properties") {
            for (field, about) in inner.as_object().unwrap() {
                let documented = ["description", "const", "$ref"].iter().any(|key| about.get(key).is_some());
                if !documented {
                    out.push(format!("{path}/{field}"));
                }
                out.extend(undocumented(about, &format!("{path}/{field}")));
            }
        } else {
            out.extend(undocumented(inner, &path));
        }
    }
    out
}

#[test]
fn places_count_from_zero_over_all_roles() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let found = lines(&score(&[str(&chats), "-o", "-"]).stdout);
    let places: Vec<_> = found
        .iter()
        .filter(|line| line["type"] == "message" && line["user_id"] == "bo" && line["session_index"] == 1)
        .map(|line| (line["session_id"].as_str().unwrap(), line["message_index"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [("bo-2", 0), ("bo-2", 1), ("bo-2", 3)], "a system message is counted and has no line");
    let history = found.iter().find(|line| line["type"] == "history").unwrap();
    assert_eq!(history["notes"]["kept_apart"], 4);
}

#[test]
fn threads_and_the_order_of_lines_change_no_byte() {
    let folder = folder();
    let mut records = sessions();
    let chats = write(&folder, "chats.jsonl", &records.concat());
    let one = score(&[str(&chats), "-o", "-", "--threads", "1"]).stdout;
    assert_eq!(text(&score(&[str(&chats), "-o", "-", "--threads", "2"]).stdout), text(&one));
    records.reverse();
    records.swap(0, 5);
    let shuffled = write(&folder, "shuffled.jsonl", &records.concat());
    assert_eq!(text(&score(&[str(&shuffled), "-o", "-"]).stdout), text(&one));
    let (here, there) = (score(&[str(&chats)]), score(&[str(&shuffled)]));
    assert_eq!(text(&here.stdout), text(&there.stdout));
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let out = write(&folder, "scores.jsonl", "as it was");
    assert_eq!(code(&score(&[str(&chats), "-o", str(&out), "--window-tokens", "100"])), 2);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "as it was");
    assert_eq!(code(&score(&[str(&chats), "-o", str(&out)])), 0);
    let streamed = score(&[str(&chats), "-o", "-"]);
    assert_eq!(std::fs::read(&out).unwrap(), streamed.stdout);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no temporary file is left: {names:?}");
}

/// A disk that is full in the middle: here, a limit on the size of files.
#[test]
#[cfg(unix)]
fn a_broken_write_leaves_the_file_as_it_was() {
    let folder = folder();
    let chats = write(&folder, "chats.jsonl", &sessions().concat());
    let out = write(&folder, "scores.jsonl", "as it was");
    let script = "ulimit -f 4; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_throughline"), "score", "--model", MODEL, str(&chats)]);
    let output = command.args(["-q", "-o", str(&out)]).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "as it was");
}

#[test]
fn csv_columns_can_be_named() {
    let folder = folder();
    let rows = "kunde;wer;was\nada;user;a first message about the garden\nada;assistant;Let us see.\n";
    let chats = write(&folder, "chats.csv", rows);
    let columns = ["--csv-user", "kunde", "--csv-role", "wer", "--csv-content", "was", "--csv-delimiter", ";"];
    let output = score(&[&[str(&chats), "-o", "-"], &columns[..]].concat());
    assert_eq!(code(&output), 0, "{output:?}");
    let messages: Vec<_> = lines(&output.stdout).into_iter().filter(|line| line["type"] == "message").collect();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["user_id"], "ada");
}

#[test]
fn standard_input_is_read() {
    use std::io::Write;
    use std::process::Stdio;
    let mut command = throughline();
    command.args(["score", "--model", MODEL, "-", "-o", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(sessions().concat().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(lines(&output.stdout).last().unwrap()["users"], 3);
}
