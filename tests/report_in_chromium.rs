//! The report in a real browser: it loads, asks the network for nothing, and breaks no rule of its
//! own. Skipped aloud where there is no Chromium (`CHROMIUM` may name one).

#![cfg(feature = "cli")]

mod cli_support;

use std::path::Path;
use std::process::{Command, Output};

use cli_support::{EXAMPLES, code, folder, score, session, str, text, write};

fn chromium() -> Option<String> {
    let asked = std::env::var("CHROMIUM").ok();
    let usual = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].map(str::to_owned);
    let answers = |name: &String| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = asked.into_iter().chain(usual).find(answers);
    if found.is_none() {
        println!("SKIPPED: no Chromium; hint: install chromium, or name one in CHROMIUM");
    }
    found
}

/// The page after loading, and the browser's log of its console and network.
fn load(chromium: &str, page: &Path, arguments: &[&str]) -> Output {
    let profile = folder();
    let mut command = Command::new(chromium);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--enable-logging=stderr", "--log-level=0"])
        .arg(format!("--user-data-dir={}", str(profile.path())))
        .args(arguments)
        .arg(format!("file://{}", str(page)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// Lines of the log that the page caused.
fn complaints(output: &Output) -> Vec<String> {
    let log = String::from_utf8_lossy(&output.stderr);
    log.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect()
}

/// Addresses the browser asked for, by its own network log.
fn addresses(log: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(log).unwrap();
    let quoted = log.split('"').filter(|part| part.starts_with("http") || part.starts_with("file:"));
    let mut found: Vec<String> = quoted.map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_report_loads_quietly() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let page = folder.path().join("report.html");
    assert_eq!(code(&score(&[EXAMPLES, "-q", "--report", str(&page)])), 0);
    let network = folder.path().join("network.json");
    let log = format!("--log-net-log={}", str(&network));
    let output = load(&chromium, &page, &["--dump-dom", &log]);
    assert_eq!(complaints(&output), [""; 0]);
    assert_eq!(addresses(&network).iter().filter(|address| address.starts_with("http")).count(), 0);
    let dom = text(&output.stdout);
    assert_eq!(dom.matches("<details class=\"user\"").count(), 9);
    assert_eq!(dom.matches("<svg").count(), 9);
}

/// The test above would see it if a page did break the rules.
#[test]
fn a_noisy_page_is_noticed() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">";
    let page = write(&folder, "noisy.html", &format!("<!doctype html>{policy}<script>alert(1)</script>"));
    assert!(!complaints(&load(&chromium, &page, &["--dump-dom"])).is_empty());
}

#[test]
fn hostile_content_makes_no_element() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let said = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)><iframe></iframe>";
    let user = "</title></svg><b>user";
    let chats = write(&folder, "chats.jsonl", &session(user, "<u>", 1, &[("user", said), ("assistant", said)]));
    let page = folder.path().join("report.html");
    assert_eq!(code(&score(&[str(&chats), "--report", str(&page)])), 0);
    let output = load(&chromium, &page, &["--dump-dom"]);
    assert_eq!(complaints(&output), [""; 0]);
    let dom = text(&output.stdout);
    for element in ["<script", "<img", "<iframe", "<b>user", "<u>"] {
        assert!(!dom.contains(element), "{element}");
    }
    assert!(dom.contains("&lt;script&gt;document.title"));
    assert!(dom.contains("<title>throughline report: 1 user,"));
}

#[test]
fn a_thousand_users_are_folded_and_load() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let records: String = (0..1_000).map(|i| session(&format!("user-{i}"), "s", 1, &[("user", "hello")])).collect();
    let chats = write(&folder, "chats.jsonl", &records);
    let page = folder.path().join("report.html");
    assert_eq!(code(&score(&[str(&chats), "-q", "--report", str(&page)])), 0);
    let output = load(&chromium, &page, &["--dump-dom"]);
    assert_eq!(complaints(&output), [""; 0]);
    let dom = text(&output.stdout);
    assert_eq!((dom.matches("<details").count(), dom.matches(" open=\"").count()), (1_000, 0));
}
