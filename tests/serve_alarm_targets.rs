//! Toward whom an alarm is, and who is told.

#![cfg(feature = "server")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use serve_support::cli_support::{code, folder, text, throughline, write};
use serve_support::{EAGER, Server, alarm_about_a_landlady, conversation, turn};

mod serve_support;

fn first(alarms: &Value) -> &Value {
    assert!(alarms["alarms"][0].is_object(), "{alarms}");
    &alarms["alarms"][0]
}

/// That two answers tell of the same people.
fn same_people(a: &Value, b: &Value) {
    let of = |people: &Value, keys: &[&str]| {
        let one = |person: &Value| keys.iter().map(|key| person[*key].clone()).collect::<Vec<Value>>();
        people.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let facts = ["id", "label", "mentions", "messages", "first", "last", "level", "onset"];
    assert_eq!(of(a, &facts), of(b, &facts));
    let numbers = ["score", "harassment_share", "delusion_share"];
    for (a, b) in of(a, &numbers).concat().iter().zip(of(b, &numbers).concat()) {
        assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5, "{a} is not {b}");
    }
}

/// That an answer tells of an alarm, and not toward whom it is.
fn tells_nobody(told: &str) {
    assert!(told.contains("\"findings\"") && !told.contains("targets") && !told.contains("landlady"), "{told}");
}

/// A server that alarms somebody in nearly everything.
fn eager(home: &tempfile::TempDir, data: &Path, more: &[&str]) -> Server {
    let policy = write(home, "eager.toml", EAGER);
    Server::start(data, &[&["--policy", policy.to_str().unwrap()], more].concat())
}

#[test]
fn an_alarm_tells_toward_whom_it_is_in_the_list_and_not_beside_the_user() {
    let (home, data) = (folder(), folder());
    let server = eager(&home, data.path(), &[]);
    alarm_about_a_landlady(&server);
    // The other route reads what is kept anew.
    let now = server.get("/v1/users/ada/targets").ok()["targets"].clone();
    let listed = server.get("/v1/alarms").ok();
    let then = first(&listed)["targets"].clone();
    same_people(&then, &now);
    assert_eq!(then[0]["label"], "My landlady", "{listed}");
    assert!(first(&listed)["verdict"].get("targets").is_none(), "{listed}");
    tells_nobody(&server.get("/v1/users/ada").text);
    // It is told as it was then, whatever is said later.
    for messages in conversation(3) {
        server.post("/v1/turns", &turn("ada", "later", &messages)).ok();
    }
    assert_eq!(first(&server.get("/v1/alarms").ok())["targets"], then);
    assert_eq!(server.stop().0, Some(0));
    // Names that were kept are not told by a server that keeps them to itself, or that drops what was said.
    for hiding in [&["--pseudonymous-targets"][..], &["--retain-content-days", "30"]] {
        let server = eager(&home, data.path(), hiding);
        let listed = server.get("/v1/alarms").ok();
        let target = &first(&listed)["targets"][0];
        assert_eq!((&target["label"], &target["id"]), (&json!("person 1"), &then[0]["id"]), "{listed}");
        assert_eq!(target["harassment_share"], then[0]["harassment_share"]);
        assert_eq!(server.stop().0, Some(0));
    }
}

#[test]
fn where_no_text_is_kept_no_name_is() {
    let (home, data) = (folder(), folder());
    let server = eager(&home, data.path(), &["--no-content"]);
    alarm_about_a_landlady(&server);
    tells_nobody(&first(&server.get("/v1/alarms").ok()).to_string());
}

/// The first event of the stream of alarms.
fn streamed(server: &Server, token: &str) -> String {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!("host: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(format!("GET /v1/alarms/stream?after=0 HTTP/1.1\r\n{head}").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("data:")).unwrap()
}

#[test]
fn only_who_may_read_and_review_is_told() {
    let (home, data) = (folder(), folder());
    let token = |name: &str, scopes: &[&str]| {
        let scopes = scopes.iter().flat_map(|scope| ["--scope", scope]);
        let made = throughline().arg("token").arg(name).args(scopes).output().unwrap();
        assert_eq!(code(&made), 0, "{made:?}");
        (text(&made.stdout), text(&made.stderr).trim().to_owned())
    };
    let made = [token("bot", &["ingest"]), token("view", &["read", "admin"]), token("desk", &["read", "review"])];
    let file = write(&home, "tokens.toml", &made.each_ref().map(|(entry, _)| entry.as_str()).join("\n"));
    let [ingest, viewer, reviewer] = made.map(|(_, token)| token);
    let mut server = eager(&home, data.path(), &["--tokens", file.to_str().unwrap()]);
    alarm_about_a_landlady(server.with_token(Some(&ingest)));
    let seen = server.with_token(Some(&viewer)).get("/v1/alarms");
    first(&seen.ok());
    tells_nobody(&seen.text);
    tells_nobody(&streamed(&server, &viewer));
    let seen = server.with_token(Some(&reviewer)).get("/v1/alarms").ok();
    assert_eq!(first(&seen)["targets"][0]["label"], "My landlady", "{seen}");
    let event = streamed(&server, &reviewer);
    assert!(event.contains("\"label\":\"My landlady\""), "{event}");
    server.with_token(Some(&ingest)).get("/v1/alarms").problem(403);
}
