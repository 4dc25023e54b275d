//! Runs the binary on a tiny model with invented heads, which is fast and finds something in
//! everything. What the embedded model says is tested elsewhere.

#![allow(dead_code, reason = "every test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny-heads/model.gguf");
pub const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/examples");

/// The binary, without any setting of the one who runs the test.
pub fn throughline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_throughline"));
    let ours = |name: &str| name.starts_with("THROUGHLINE_") || matches!(name, "RAYON_NUM_THREADS" | "NO_COLOR");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(ours) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// `score --model TINY` and these arguments.
pub fn score(arguments: &[&str]) -> Output {
    throughline().args(["score", "--model", MODEL]).args(arguments).output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {}", text(&output.stderr)))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The lines of JSON output.
pub fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder for one test.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

pub fn write(folder: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The built-in policy, but nothing is an imminent threat by it: the tiny model sees some in everything.
pub fn calm_policy(folder: &tempfile::TempDir) -> PathBuf {
    let built_in = throughline::verdict::DEFAULT_POLICY_TOML;
    let calm = built_in.replace("imminent_min = 0.3 ", "imminent_min = 1.0 ");
    assert_ne!(calm, built_in);
    write(folder, "calm.toml", &calm)
}

pub fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A native record of one session.
pub fn session(user: &str, session: &str, day: usize, messages: &[(&str, &str)]) -> String {
    let messages: Vec<Value> =
        messages.iter().map(|(role, content)| serde_json::json!({"role": role, "content": content})).collect();
    let started_at = format!("2026-03-{day:02}T20:00:00Z");
    let record = serde_json::json!({
        "user_id": user, "session_id": session, "started_at": started_at, "messages": messages,
    });
    format!("{record}\n")
}

/// A few users with a few sessions, as lines.
pub fn sessions() -> Vec<String> {
    let mut lines = Vec::new();
    for user in ["ada", "bo", "cy"] {
        for day in 1..=4 {
            let first = format!("{user} writes a first message on day {day}, about the garden and the rain");
            let second = format!("and a second one on day {day}");
            let messages =
                [("user", first.as_str()), ("assistant", "Let us see."), ("system", "note"), ("user", &second)];
            lines.push(session(user, &format!("{user}-{day}"), day, &messages));
        }
    }
    lines
}
