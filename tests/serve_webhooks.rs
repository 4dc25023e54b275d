//! Alarms that are sent to webhooks.

#![cfg(feature = "outbound")]

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use serve_support::cli_support::{folder, write};
use serve_support::other::{Asked, Other};
use serve_support::{EAGER, PATIENCE, Server, alarm_about_a_landlady, conversation, turn};

mod serve_support;

fn answer(socket: &mut TcpStream, status: &str) {
    write!(socket, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

/// One webhook of the name, from the level on.
fn file(other: &Other, name: &str, level: &str) -> String {
    format!(
        "[[webhooks]]\nname = \"{name}\"\nurl = \"{}\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\nlevel_min = \"{level}\"\n",
        other.url
    )
}

/// Talk that raises an alarm of this user.
fn alarm(server: &Server, user: &str) -> i64 {
    for messages in conversation(8) {
        let alarm = server.post("/v1/turns", &turn(user, "s", &messages)).ok()["alarm"].clone();
        if let Some(id) = alarm["id"].as_i64() {
            return id;
        }
    }
    panic!("no alarm");
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    let line = asked.headers.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name}: {}", asked.headers))
}

/// Until so many alarms were taken.
fn taken(server: &Server, count: usize) {
    let begun = Instant::now();
    let line = format!("throughline_webhooks_total{{result=\"taken\"}} {count}");
    while !server.get("/metrics").text.contains(&line) {
        assert!(begun.elapsed() < PATIENCE, "not {count} were taken");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_alarm_is_sent_until_it_is_taken_and_never_lost() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let failures = Arc::new(AtomicUsize::new(1));
    let left = failures.clone();
    let other = Other::start(move |_, socket| {
        let failing = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        answer(socket, if failing { "503 Service Unavailable" } else { "204 No Content" });
    });
    let hooks = write(&home, "hooks.toml", &(file(&other, "pager", "review") + &file(&other, "quiet", "urgent")));
    let data = folder();
    let arguments = ["--policy", policy.to_str().unwrap(), "--webhooks", hooks.to_str().unwrap()];
    let server = Server::start(data.path(), &arguments);
    let id = alarm(&server, "ada");
    let (first, again) = (other.asked(), other.asked());
    assert_eq!(first.body, again.body, "what was not taken is sent once more, the same");
    assert_eq!(
        (header(&first, "webhook-id"), header(&again, "webhook-id")),
        (&*format!("alarm_{id}"), &*format!("alarm_{id}"))
    );
    assert!(header(&again, "webhook-signature").starts_with("v1,"));
    let body: Value = serde_json::from_str(&again.body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["id"], &body["data"]["user_id"]),
        (&"alarm.raised".into(), &id.into(), &"ada".into())
    );
    let texts = conversation(8).into_iter().flatten().map(|message| message["content"].as_str().unwrap().to_owned());
    assert!(texts.into_iter().all(|text| !again.body.contains(&text)), "{}", again.body);
    taken(&server, 1);
    // What is raised while nobody listens is sent by the next server, and nothing twice.
    failures.store(usize::MAX, Ordering::SeqCst);
    let second = alarm(&server, "bo");
    other.asked();
    let (status, log) = server.stop();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("was not taken") && !log.contains("whsec"), "{log}");
    while other.asked.try_recv().is_ok() {}
    failures.store(0, Ordering::SeqCst);
    let server = Server::start(data.path(), &arguments);
    assert_eq!(header(&other.asked(), "webhook-id"), format!("alarm_{second}"));
    taken(&server, 1);
    other.was_not_asked();
}

#[test]
fn a_new_webhook_begins_with_the_next_alarm() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let data = folder();
    let server = Server::start(data.path(), &["--policy", policy.to_str().unwrap()]);
    alarm(&server, "ada");
    server.stop();
    let other = Other::start(|_, socket| answer(socket, "200 OK"));
    let hooks = write(&home, "hooks.toml", &file(&other, "pager", "review"));
    let server =
        Server::start(data.path(), &["--policy", policy.to_str().unwrap(), "--webhooks", hooks.to_str().unwrap()]);
    // It is there once the server is.
    std::thread::sleep(Duration::from_millis(300));
    let id = alarm(&server, "bo");
    assert_eq!(header(&other.asked(), "webhook-id"), format!("alarm_{id}"));
    let wrong = write(&home, "wrong.toml", "[[webhooks]]\nname = \"x\"");
    let told = Server::try_start(folder().path(), &["--webhooks", wrong.to_str().unwrap()]).err().unwrap();
    assert!(told.contains("wrong.toml") && told.contains("hint: [[webhooks]]"), "{told}");
}

#[test]
fn webhooks_are_those_that_stand_in_the_file_by_now() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let (before, after) =
        (Other::start(|_, socket| answer(socket, "200 OK")), Other::start(|_, socket| answer(socket, "200 OK")));
    let hooks = write(&home, "hooks.toml", &file(&before, "pager", "review"));
    let data = folder();
    let arguments = ["--policy", policy.to_str().unwrap(), "--webhooks", hooks.to_str().unwrap()];
    let server = Server::start(data.path(), &arguments);
    let id = alarm(&server, "ada");
    assert_eq!(header(&before.asked(), "webhook-id"), format!("alarm_{id}"));
    taken(&server, 1);
    // What cannot be used changes nothing.
    write(&home, "hooks.toml", "[[webhooks]]\nname = \"x\"");
    server.until_logged("the file of webhooks changed and cannot be used");
    let id = alarm(&server, "bo");
    assert_eq!(header(&before.asked(), "webhook-id"), format!("alarm_{id}"));
    taken(&server, 2);
    // The same webhook at another address goes on where it was; a new one begins with the next alarm.
    write(&home, "hooks.toml", &(file(&after, "pager", "review") + &file(&after, "second", "review")));
    server.until_logged("the file of webhooks changed and was read again");
    let id = alarm(&server, "cy");
    for _ in ["pager", "second"] {
        assert_eq!(header(&after.asked(), "webhook-id"), format!("alarm_{id}"));
    }
    taken(&server, 4);
    before.was_not_asked();
    // They may all be taken away.
    write(&home, "hooks.toml", "# none\n");
    let begun = Instant::now();
    while server.log().matches("the file of webhooks changed and was read again").count() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    alarm(&server, "di");
    after.was_not_asked();
    let (status, log) = server.stop();
    assert_eq!(status, Some(0), "{log}");
}

#[test]
fn what_was_erased_while_nobody_listened_is_not_sent() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let fails = Arc::new(AtomicUsize::new(1));
    let failing = fails.clone();
    let other = Other::start(move |_, socket| {
        let fails = failing.load(Ordering::SeqCst) == 1;
        answer(socket, if fails { "503 Service Unavailable" } else { "204 No Content" });
    });
    let hooks = write(&home, "hooks.toml", &file(&other, "pager", "review"));
    let data = folder();
    let server =
        Server::start(data.path(), &["--policy", policy.to_str().unwrap(), "--webhooks", hooks.to_str().unwrap()]);
    let first = alarm(&server, "ada");
    assert_eq!(header(&other.asked(), "webhook-id"), format!("alarm_{first}"));
    let second = alarm(&server, "bo");
    assert_eq!(server.delete("/v1/users/ada").status, 204);
    // What was in the air when she was erased has come by now.
    std::thread::sleep(Duration::from_millis(100));
    while other.asked.try_recv().is_ok() {}
    fails.store(0, Ordering::SeqCst);
    assert_eq!(header(&other.asked(), "webhook-id"), format!("alarm_{second}"));
    taken(&server, 1);
}

#[test]
fn toward_whom_an_alarm_is_is_not_sent() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let other = Other::start(|_, socket| answer(socket, "204 No Content"));
    let hooks = write(&home, "hooks.toml", &file(&other, "pager", "review"));
    let data = folder();
    let server =
        Server::start(data.path(), &["--policy", policy.to_str().unwrap(), "--webhooks", hooks.to_str().unwrap()]);
    alarm_about_a_landlady(&server);
    let listed = server.get("/v1/alarms").ok()["alarms"][0].clone();
    assert_eq!(listed["targets"][0]["label"], "My landlady", "there is something to keep back: {listed}");
    let asked = other.asked();
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&body["data"]["id"], &body["data"]["verdict"]), (&listed["id"], &listed["verdict"]));
    assert!(!asked.body.contains("targets") && !asked.body.contains("landlady"), "{}", asked.body);
}
