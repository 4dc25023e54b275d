//! Clients that operators use, against the sidecar: the examples, and OpenAI's own SDK.

#![cfg(feature = "server")]

use std::process::{Command, Output};

use serve_support::Server;
use serve_support::cli_support::{folder, text};

mod serve_support;

/// A Python with what the examples need: `THROUGHLINE_PYTHON`, or the one on the path.
fn python(server: &Server, example: &str, arguments: &[&str]) -> Option<Output> {
    let python = std::env::var("THROUGHLINE_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("{}/examples/sidecar/{example}", env!("CARGO_MANIFEST_DIR"));
    let run = Command::new(python)
        .arg(script)
        .args(arguments)
        .env("THROUGHLINE_URL", &server.url)
        .env_remove("THROUGHLINE_TOKEN")
        .output();
    match run {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: no Python: {error}");
            None
        }
    }
}

#[test]
fn the_loop_around_an_assistant_runs() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let Some(run) = python(&server, "chat.py", &["--demo"]) else { return };
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    let stands = server.get("/v1/users/demo").ok();
    assert!(stands["messages"].as_u64().unwrap() >= 4, "{stands}");
}

#[test]
fn openais_sdk_reads_what_is_answered() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let Some(run) = python(&server, "moderation_openai.py", &[]) else { return };
    if text(&run.stderr).contains("No module named 'openai'") {
        eprintln!(
            "SKIPPED: the SDK is not installed; hint: pip install openai, and THROUGHLINE_PYTHON names that Python"
        );
        return;
    }
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    assert!(!text(&run.stdout).is_empty());
}
