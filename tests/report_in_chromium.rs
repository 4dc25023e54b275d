//! The report in a real browser: it loads, asks the network for nothing, and breaks no rule of its
//! own. Skipped aloud where there is no Chromium (`CHROMIUM` may name one).

#![cfg(feature = "cli")]

mod cli_support;

use std::path::Path;
use std::process::{Command, Output};

use cli_support::{EXAMPLES, MODEL, code, folder, score, session, str, text, throughline, write};

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

#[test]
fn a_report_loads_quietly() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let page = folder.path().join("report.html");
    assert_eq!(code(&score(&[EXAMPLES, "-q", "--report", str(&page)])), 0);
    let output = load(&chromium, &page, &["--dump-dom"]);
    assert_eq!(complaints(&output), [""; 0]);
    let dom = text(&output.stdout);
    // The page forbids itself every load, so one would stand in the console; and it names none.
    assert!(dom.contains("default-src 'none'; style-src 'unsafe-inline'"));
    for load in ["src=", "url(", "@import", "<link", "href=\"h", "srcset", "data:"] {
        assert!(!dom.contains(load), "{load}");
    }
    assert_eq!(dom.matches("<details class=\"user\"").count(), 9);
    assert_eq!(dom.matches("<svg").count(), 9);
}

#[test]
fn a_benchmarks_page_loads_quietly() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let page = folder.path().join("bench.html");
    let author = "=== <u>a-1 | kind=mundane | style=x\n--- 2026-03-01T20:11\nU h0 d0: hello\nA s0: hello\n\
        === a-2 | kind=both | style=x\narc harassment onset=1.1\n--- 2026-03-01T20:11\nU h3 d0: hello\nA s0: hello\n";
    let data = write(&folder, "a.txt", author);
    let line = |id: &str, score: f64| format!("{{\"user_id\":\"{id}\",\"harassment\":{score},\"delusion\":0}}\n");
    let scores = write(&folder, "s.jsonl", &(line("<u>a-1", 0.1) + &line("a-2", 0.2)));
    let named = format!("<img><script>={}", str(&scores));
    let run = throughline()
        .args(["benchmark", str(&data), "--split", "all", "--samples", "20", "--model", MODEL])
        .args(["--scores", &named, "--report", str(&page)])
        .output()
        .unwrap();
    assert_eq!(code(&run), 0, "{}", text(&run.stderr));
    let output = load(&chromium, &page, &["--dump-dom"]);
    assert_eq!(complaints(&output), [""; 0]);
    let dom = text(&output.stdout);
    assert!(dom.contains("default-src 'none'; style-src 'unsafe-inline'"));
    for load in ["src=\"", "url(", "@import", "<link", "href=", "srcset", "data:", "<script", "<img", "<u>"] {
        assert!(!dom.contains(load), "{load}");
    }
    // Two arcs, of which one has a positive, and three of four kinds of message label that vary.
    for (plot, count) in [("ROC", 2), ("Precision and recall", 2), ("Alarms over time", 1), ("Reliability", 4)] {
        assert_eq!(dom.matches(&format!("<figcaption>{plot}</figcaption>")).count(), count, "{plot}");
    }
    assert!(dom.contains("&lt;img&gt;"), "a detector's name is text");
}

/// The test above would see it if a page did break the rules.
#[test]
fn a_noisy_page_is_noticed() {
    let Some(chromium) = chromium() else { return };
    let folder = folder();
    let policy = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">";
    for (name, part) in [
        ("script", "<script>alert(1)</script>"),
        ("network", "<img src='http://127.0.0.1:9/a.png'>"),
        ("style", "<style>@import 'http://127.0.0.1:9/a.css'</style>"),
    ] {
        let page = write(&folder, &format!("{name}.html"), &format!("<!doctype html>{policy}{part}"));
        assert!(!complaints(&load(&chromium, &page, &["--dump-dom"])).is_empty(), "{name}");
    }
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
