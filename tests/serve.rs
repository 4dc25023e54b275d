//! The sidecar as its callers see it.

#![cfg(feature = "server")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use serve_support::cli_support::{code, folder, score, text, throughline, write};
use serve_support::{EAGER, Server, conversation, said, turn};
use sha2::{Digest, Sha256};
use ureq::http::Method;

mod serve_support;

#[test]
fn turns_come_to_what_the_whole_history_comes_to() {
    let home = folder();
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    let turns = conversation(12);
    let mut sessions: Vec<Value> = Vec::new();
    let mut answers = Vec::new();
    for (number, messages) in turns.iter().enumerate() {
        let session = format!("s{}", number / 4);
        let answer = server.post("/v1/turns", &turn("ada", &session, messages)).ok();
        assert_eq!(answer["messages_kept"], json!(2 * (number + 1)));
        answers.extend(answer["messages"].as_array().unwrap().clone());
        if number % 4 == 0 {
            sessions.push(json!({"session_id": session, "messages": []}));
        }
        sessions.last_mut().unwrap()["messages"].as_array_mut().unwrap().extend(messages.clone());
    }
    let whole = server.post("/v1/score", &json!({"sessions": sessions})).ok();
    let scored = whole["messages"].as_array().unwrap();
    assert_eq!(scored.len(), 24);
    for (a, b) in scored.iter().zip(&answers) {
        assert_eq!((&a["session_index"], &a["message_index"]), (&b["session_index"], &b["message_index"]));
        for (a, b) in a["harassment"].as_array().unwrap().iter().zip(b["harassment"].as_array().unwrap()) {
            assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-5, "{a} {b}");
        }
    }
    let stands = server.get("/v1/users/ada").ok();
    assert_eq!((&stands["messages"], &stands["sessions"]), (&json!(24), &json!(3)));
    for (a, b) in stands["arcs"].as_array().unwrap().iter().zip(whole["arcs"].as_array().unwrap()) {
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-4, "{a} {b}");
        assert_eq!((&a["kind"], &a["level"], &a["onset"]), (&b["kind"], &b["level"], &b["onset"]));
    }
    // And what the command line says of the same transcript.
    let line = |session: &Value| json!({"user_id": "ada", "session_id": session["session_id"], "messages": session["messages"]});
    let chats: String = sessions.iter().map(|session| format!("{}\n", line(session))).collect();
    let (chats, out) = (write(&home, "chats.jsonl", &chats), home.path().join("out.jsonl"));
    let run = score(&[chats.to_str().unwrap(), "-q", "--kernel", "portable", "-o", out.to_str().unwrap()]);
    assert_eq!(code(&run), 0, "{}", text(&run.stderr));
    let printed = std::fs::read_to_string(out).unwrap();
    let history =
        printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).find(|line| line["type"] == "history");
    for (a, b) in history.unwrap()["arcs"].as_array().unwrap().iter().zip(whole["arcs"].as_array().unwrap()) {
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_restart_changes_nothing() {
    let (home, other) = (folder(), folder());
    let turns = conversation(10);
    let one = Server::start(home.path(), &["--kernel", "portable"]);
    let mut two = Server::start(other.path(), &["--kernel", "portable"]);
    for (number, messages) in turns.iter().enumerate() {
        let asked = turn("ada", &format!("s{}", number / 3), messages);
        let (a, b) = (one.post("/v1/turns", &asked).ok(), two.post("/v1/turns", &asked).ok());
        for (a, b) in a["arcs"].as_array().unwrap().iter().zip(b["arcs"].as_array().unwrap()) {
            assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-4, "{a} {b}");
        }
        let (status, log) = two.stop();
        assert_eq!(status, Some(0), "{log}");
        two = Server::start(other.path(), &["--kernel", "portable"]);
    }
}

#[test]
fn a_session_that_arrives_late_counts_where_it_stands_in_time() {
    let home = folder();
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    let on = |day: usize, messages: &[Value]| -> Vec<Value> {
        let dated = |message: &Value| {
            let mut message = message.clone();
            message["timestamp"] = json!(format!("2026-03-{day:02}T10:00:00Z"));
            message
        };
        messages.iter().map(dated).collect()
    };
    let turns = conversation(9);
    let mut last = Value::Null;
    // The second session is older than the first, the third is the newest.
    for (number, messages) in turns.iter().enumerate() {
        let day = [20, 2, 28][number / 3];
        last = server.post("/v1/turns", &turn("ada", &format!("s{}", number / 3), &on(day, messages))).ok();
        assert_eq!(server.get("/v1/users/ada").ok()["arcs"], last["arcs"], "turn {number}");
    }
    let in_order = last["arcs"].clone();
    assert_eq!(server.stop().0, Some(0));
    let server = Server::start(home.path(), &["--kernel", "portable"]);
    assert_eq!(server.get("/v1/users/ada").ok()["arcs"], in_order);
    // A draft in a session that is older still changes nothing.
    server.post("/v1/check", &turn("ada", "s9", &on(1, &turns[0]))).ok();
    assert_eq!(server.get("/v1/users/ada").ok()["arcs"], in_order);
    let next = server.post("/v1/turns", &turn("ada", "s2", &on(28, &turns[1]))).ok();
    assert_eq!(server.get("/v1/users/ada").ok()["arcs"], next["arcs"]);
}

#[test]
fn a_draft_is_judged_and_not_kept() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let turns = conversation(4);
    server.post("/v1/turns", &turn("ada", "s", &turns[0])).ok();
    let before = server.get("/v1/users/ada").ok();
    let draft = server.post("/v1/check", &turn("ada", "s", &turns[1])).ok();
    assert_eq!(draft["messages"].as_array().unwrap().len(), 2);
    assert_eq!(draft["level_before"], before["level"]);
    assert_eq!(server.get("/v1/users/ada").ok(), before);
    // A user of whom nothing is kept may have drafts judged, too; nothing comes of it.
    server.post("/v1/check", &turn("bo", "s", &turns[1])).ok();
    server.get("/v1/users/bo").problem(404);
    // The draft that is then said scores the same.
    let kept = server.post("/v1/turns", &turn("ada", "s", &turns[1])).ok();
    assert_eq!(kept["messages"], draft["messages"]);
    assert_eq!(kept["arcs"], draft["arcs"]);
}

#[test]
fn the_same_request_is_done_once() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let messages = &conversation(1)[0];
    let asked = turn("ada", "s", messages);
    let key = [("idempotency-key", "k1")];
    let first = server.post_with("/v1/turns", &key, &asked);
    let again = server.post_with("/v1/turns", &key, &asked);
    assert_eq!((first.status, &first.text), (200, &again.text));
    assert_eq!((first.header("idempotent-replayed"), again.header("idempotent-replayed")), (None, Some("true")));
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], json!(2));
    let told = server.post_with("/v1/turns", &key, &turn("ada", "other", messages)).problem(422);
    assert!(told.contains("idempotency key"), "{told}");
    server.post_with("/v1/turns", &[("idempotency-key", "k2")], &asked).ok();
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], json!(4));
}

#[test]
fn an_alarm_is_raised_once_listed_streamed_and_acknowledged() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let server = Server::start(home.path(), &["--policy", policy.to_str().unwrap()]);
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /v1/alarms/stream HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut events = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        events.read_line(&mut head).unwrap();
    }
    assert!(head.contains("text/event-stream"), "{head}");
    let mut raised = Vec::new();
    for messages in conversation(6) {
        raised.push(server.post("/v1/turns", &turn("ada", "s", &messages)).ok()["alarm"].clone());
    }
    let alarms: Vec<&Value> = raised.iter().filter(|alarm| !alarm.is_null()).collect();
    assert_eq!(alarms.len(), 1, "old evidence raises none again: {raised:?}");
    assert_eq!(alarms[0]["level"], "review");
    let mut event = String::new();
    while !event.contains("data:") {
        let read = events.read_line(&mut event).unwrap();
        assert!(read > 0, "the stream ended: {event}");
    }
    assert!(event.contains("event: alarm") && event.contains("\"user_id\":\"ada\""), "{event}");
    let listed = server.get("/v1/alarms?open=true").ok()["alarms"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &alarms[0]["id"]));
    assert!(listed[0]["verdict"]["findings"].is_array(), "{listed}");
    let seen = server.post("/v1/users/ada/acknowledge", &json!({"by": "rev", "note": "looked"})).ok();
    assert_eq!(seen["acknowledged"], json!(1));
    assert_eq!(server.get("/v1/alarms?open=true").ok()["alarms"], json!([]));
    assert_eq!(server.get("/v1/users/ada").ok()["alarms"][0]["acknowledged"]["by"], "rev (anyone)");
    assert_eq!(server.get(&format!("/v1/alarms?after={}", alarms[0]["id"])).ok()["alarms"], json!([]));
    // The state is what it was.
    assert_eq!(server.get("/v1/users/ada").ok()["level"], "review");
    // An open stream does not keep the server from stopping.
    let (status, log) = server.stop();
    assert_eq!(status, Some(0), "{log}");
    let mut rest = String::new();
    events.read_to_string(&mut rest).ok();
}

#[test]
fn the_policy_is_read_again_and_every_record_says_which_judged() {
    let home = folder();
    let policy = write(&home, "policy.toml", &EAGER.replace("= 0.01", "= 1.0").replace("= 0.02", "= 1.0"));
    let server = Server::start(home.path(), &["--policy", policy.to_str().unwrap()]);
    let turns = conversation(3);
    let calm = server.post("/v1/turns", &turn("ada", "s", &turns[0])).ok();
    assert_eq!((&calm["level"], &calm["judged_by"]["policy"]), (&json!("none"), &json!("eager 1")));
    std::thread::sleep(Duration::from_millis(1_100));
    write(&home, "policy.toml", &EAGER.replace("version = \"1\"", "version = \"2\""));
    let called = server.post("/v1/turns", &turn("ada", "s", &turns[1])).ok();
    assert_eq!((&called["level"], &called["judged_by"]["policy"]), (&json!("review"), &json!("eager 2")));
    assert_ne!(called["judged_by"]["policy_sha256"], calm["judged_by"]["policy_sha256"]);
    // The record of the alarm says by what it was raised; so does what is told of the user.
    let stands = server.get("/v1/users/ada").ok();
    assert_eq!(stands["alarms"][0]["verdict"]["judged_by"], called["judged_by"]);
    assert_eq!(stands["judged_by"], called["judged_by"]);
    assert_eq!(stands["judged_by"]["model_sha256"].as_str().map(str::len), Some(64));
    // One that does not hold together changes nothing.
    std::thread::sleep(Duration::from_millis(1_100));
    write(&home, "policy.toml", "name = 'broken'");
    let again = server.post("/v1/check", &turn("ada", "s", &turns[2])).ok();
    assert_eq!(again["judged_by"], called["judged_by"]);
    server.until_logged("the policy changed and cannot be used: it stays as it was");
    server.until_logged("schema_version");
}

#[test]
fn toward_whom_the_evidence_is_can_be_asked() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let said = [
        said("user", "My landlady Ottoline lied about me again."),
        said("assistant", "What happened?"),
        said("user", "She will be sorry. Ottoline always is."),
    ];
    server.post("/v1/turns", &turn("ada", "s", &said)).ok();
    server.get("/v1/users/bo/targets").problem(404);
    let found = server.get("/v1/users/ada/targets").ok();
    let (label, unread) = (&found["targets"][0]["label"], &found["unread_messages"]);
    assert_eq!((label, unread), (&json!("My landlady"), &json!(0)), "{found}");
    assert_eq!(found["targets"][0]["last"], json!({"session_index": 0, "message_index": 2}));
    assert!(found["targets"][0]["harassment_share"].as_f64().unwrap() > 0.5, "{found}");
    assert_eq!(server.stop().0, Some(0));
    let server = Server::start(home.path(), &["--pseudonymous-targets"]);
    let hidden = server.get("/v1/users/ada/targets").ok();
    assert_eq!(hidden["targets"][0]["label"], json!("person 1"), "{hidden}");
    assert_eq!(server.stop().0, Some(0));
    // Where texts are not kept, nobody is named, and how much is missing is told.
    let home = folder();
    let server = Server::start(home.path(), &["--no-content"]);
    server.post("/v1/turns", &turn("ada", "s", &said)).ok();
    assert_eq!(server.get("/v1/users/ada/targets").ok()["targets"], json!([]));
    assert_eq!(server.get("/v1/users/ada/targets").ok()["unread_messages"], json!(3));
}

#[test]
fn the_erased_are_forgotten_and_the_held_are_not() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let messages = &conversation(1)[0];
    server.post("/v1/turns", &turn("a/d a", "s", messages)).ok();
    let path = "/v1/users/a%2Fd%20a";
    assert_eq!(server.get(path).ok()["user_id"], "a/d a");
    assert_eq!(server.put(&format!("{path}/hold"), &json!({"held": true})).status, 204);
    let told = server.delete(path).problem(409);
    assert!(told.contains("legal hold"), "{told}");
    assert_eq!(server.put(&format!("{path}/hold"), &json!({"held": false})).status, 204);
    assert_eq!(server.delete(path).status, 204);
    server.get(path).problem(404);
    server.delete(path).problem(404);
    // Whoever comes back begins anew.
    let again = server.post("/v1/turns", &turn("a/d a", "s", messages)).ok();
    assert_eq!((&again["messages_kept"], &again["messages"][0]["session_index"]), (&json!(2), &json!(0)));
}

#[test]
fn what_a_person_saw_raises_no_alarm_and_what_comes_after_does() {
    let home = folder();
    // The tiny model's levels alone, without its odds of an open case, come to this within a few messages.
    let policy = write(&home, "eager.toml", &EAGER.replace("score_min = 0.02", "score_min = 0.5"));
    let arguments = ["--policy", policy.to_str().unwrap(), "--kernel", "portable"];
    let mut server = Server::start(home.path(), &arguments);
    let mut raised = Vec::new();
    for (number, messages) in conversation(60).iter().enumerate() {
        let alarm = server.post("/v1/turns", &turn("ada", "s", messages)).ok()["alarm"].clone();
        if !alarm.is_null() {
            raised.push(number);
            server.post("/v1/users/ada/acknowledge", &json!({"by": "rev"})).ok();
        }
        // What a person saw is known after a restart, too.
        if number % 7 == 6 {
            assert_eq!(server.stop().0, Some(0));
            server = Server::start(home.path(), &arguments);
        }
    }
    assert!(raised.len() >= 2, "what comes after raises one again: {raised:?}");
    assert!(raised.windows(2).any(|pair| pair[1] > pair[0] + 1), "and not at every message: {raised:?}");
}

#[test]
fn without_content_scores_are_kept_and_arcs_go_on() {
    let home = folder();
    let turns = conversation(6);
    let server = Server::start(home.path(), &["--no-content"]);
    for messages in &turns[..3] {
        server.post("/v1/turns", &turn("ada", "s", messages)).ok();
    }
    let before = server.get("/v1/users/ada").ok();
    assert_eq!(server.stop().0, Some(0));
    let server = Server::start(home.path(), &["--no-content"]);
    assert_eq!(server.get("/v1/users/ada").ok(), before);
    // Whoever has the text can show that it is what was judged.
    let kept = server.get("/v1/users/ada/messages?first=3").ok();
    let said = turns[1][1]["content"].as_str().unwrap();
    let digest: String = Sha256::digest(said).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&kept["messages"][0]["text_sha256"], &kept["messages"][0]["number"]), (&json!(digest), &json!(3)));
    assert!(kept["messages"][0]["scores"]["stance"].is_array() && kept["next"].is_null(), "{kept}");
    assert_eq!(kept["messages"].as_array().unwrap().len(), 3);
    assert!(!kept.to_string().contains(said), "{kept}");
    let last = server.get("/v1/users/ada/messages?first=18446744073709551615").ok();
    assert_eq!((&last["messages"], &last["next"]), (&json!([]), &Value::Null));
    server.get("/v1/users/nobody/messages").problem(404);
    let answer = server.post("/v1/turns", &turn("ada", "s", &turns[3])).ok();
    assert_eq!((&answer["messages_kept"], &answer["messages"][0]["message_index"]), (&json!(8), &json!(6)));
    let arcs = server.get("/v1/users/ada").ok()["arcs"].clone();
    for (a, b) in answer["arcs"].as_array().unwrap().iter().zip(arcs.as_array().unwrap()) {
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn moderation_has_the_shape_that_its_clients_read() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let one = server.post("/v1/moderations", &json!({"input": "hello there", "model": "omni-moderation-latest"})).ok();
    let many = server.post("/v1/moderations", &json!({"input": ["hello there", "good night"]})).ok();
    let parts = server.post("/v1/moderations", &json!({"input": [{"type": "text", "text": "hello there"}]})).ok();
    assert_eq!((one["results"].as_array().unwrap().len(), many["results"].as_array().unwrap().len()), (1, 2));
    assert_eq!(one["results"], parts["results"]);
    assert_eq!(one["results"][0], many["results"][0]);
    for key in ["categories", "category_scores", "category_applied_input_types"] {
        assert_eq!(one["results"][0][key].as_object().unwrap().len(), 13, "{one}");
    }
    assert!(one["id"].as_str().unwrap().starts_with("modr-") && one["model"].is_string());
    // In a user's history, of which nothing is kept either.
    let headers = [("x-throughline-user", "ada"), ("x-throughline-session", "s")];
    server.post_with("/v1/moderations", &headers, &json!({"input": "hello there"})).ok();
    server.get("/v1/users/ada").problem(404);
    let unread = server.ask(
        Method::POST,
        "/v1/moderations",
        &[("content-type", "application/json"), ("x-throughline-user", &"x".repeat(300))],
        Some("{\"input\": \"x\"}"),
    );
    unread.unwrap().problem(422);
}

#[test]
fn litellm_asks_before_the_model_and_after_it() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let server = Server::start(home.path(), &["--policy", policy.to_str().unwrap()]);
    let ask = |kind: &str, texts: &[&str], call: &str, params: Value| {
        let asked = json!({
            "texts": texts, "input_type": kind, "litellm_call_id": call, "litellm_trace_id": "chat-1", "images": [], "tools": [],
            "request_data": {"user_api_key_hash": "x", "user_api_key_end_user_id": "ada"},
            "additional_provider_specific_params": params
        });
        server.post("/beta/litellm_basic_guardrail_api", &asked).ok()
    };
    assert_eq!(ask("request", &["be kind", "the garden"], "c1", json!({})), json!({"action": "NONE"}));
    assert_eq!(ask("response", &["rain tonight"], "c1", Value::Null), json!({"action": "NONE"}));
    // Of a conversation that is sent whole every time, each message is kept once; the same call too.
    ask("request", &["be kind", "the garden", "rain tonight", "she was there"], "c2", json!({}));
    ask("request", &["be kind", "the garden", "rain tonight", "she was there"], "c2", json!({}));
    let stands = server.get("/v1/users/ada").ok();
    assert_eq!((&stands["messages"], &stands["sessions"]), (&json!(3), &json!(1)));
    // A streamed reply grows under one call.
    for reply in ["they", "they sent", "they sent a sign"] {
        ask("response", &[reply], "c2", json!({}));
    }
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], json!(4));
    let blocked = ask("request", &["my street, they sent a sign"], "c3", json!({"block_at": "review", "keep": false}));
    assert_eq!((&blocked["action"], blocked["blocked_reason"].is_string()), (&json!("BLOCKED"), true));
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], json!(4));
    // Without a user it is judged alone, and nothing is kept.
    let alone = server.post("/beta/litellm_basic_guardrail_api", &json!({"texts": ["hello"], "input_type": "request"}));
    assert_eq!(alone.ok()["action"], "NONE");
    let none = server.post("/beta/litellm_basic_guardrail_api", &json!({"texts": [], "input_type": "response"}));
    assert_eq!(none.ok()["action"], "NONE");
}

#[test]
fn the_description_in_the_repository_is_the_servers() {
    let copy = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/openapi.json");
    let made = throughline::server::openapi();
    let hint = "THROUGHLINE_WRITE_OPENAPI=1 cargo test --test serve description";
    if std::env::var_os("THROUGHLINE_WRITE_OPENAPI").is_some() {
        std::fs::write(copy, &made).unwrap();
    }
    let here = std::fs::read_to_string(copy).unwrap_or_default();
    assert!(here == made, "schemas/openapi.json is old; hint: {hint}");
}

#[test]
fn a_store_is_looked_after() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    server.post("/v1/turns", &turn("ada", "s", &conversation(1)[0])).ok();
    let store = |arguments: &[&str]| throughline().arg("store").args(arguments).output().unwrap();
    let (here, copy) = (home.path().to_str().unwrap(), home.path().join("restored"));
    std::fs::create_dir(&copy).unwrap();
    let file = copy.join("throughline.sqlite");
    let backup = store(&["backup", "--folder", here, file.to_str().unwrap()]);
    assert_eq!(code(&backup), 0, "{backup:?}");
    assert_eq!(code(&store(&["backup", "--folder", here, file.to_str().unwrap()])), 2, "never over another");
    assert_eq!(server.stop().0, Some(0));
    let check = store(&["check", "--folder", here]);
    assert!(text(&check.stdout).contains("users 1, messages 2, alarms that wait "), "{check:?}");
    let key = home.path().join("key");
    let without = Server::try_start(&copy, &[]).err().unwrap();
    assert!(without.contains("key") && without.contains("hint"), "no new key beside an old database: {without}");
    let restored = Server::start(&copy, &["--key-file", key.to_str().unwrap()]);
    assert_eq!(restored.get("/v1/users/ada").ok()["messages"], json!(2));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let nowhere = store(&["check", "--folder", "/nowhere/at/all"]);
    assert_eq!(code(&nowhere), 2);
    assert!(text(&nowhere.stderr).contains("--folder"), "{nowhere:?}");
}

#[test]
fn users_may_be_kept_and_told_under_pseudonyms() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let server = Server::start(home.path(), &["--pseudonymous-users", "--policy", policy.to_str().unwrap()]);
    let id = "ada@example.org";
    for messages in conversation(8) {
        server.post("/v1/turns", &turn(id, "s", &messages)).ok();
    }
    let stands = server.get(&format!("/v1/users/{id}")).ok();
    let pseudonym = stands["user_id"].as_str().unwrap();
    assert!(pseudonym.starts_with("u_") && pseudonym.len() == 66, "{pseudonym}");
    // Whoever reads it somewhere asks for it.
    assert_eq!(server.get(&format!("/v1/users/{pseudonym}")).ok(), stands);
    let alarms = server.get("/v1/alarms").ok();
    assert!(alarms["alarms"].as_array().unwrap().iter().all(|alarm| alarm["user_id"] == *pseudonym), "{alarms}");
    assert!(!alarms["alarms"].as_array().unwrap().is_empty());
    // Every way in leads to the same user.
    let draft = json!({"user_id": id, "session_id": "s", "messages": [{"role": "user", "content": "hello"}]});
    let known = server.post("/v1/check", &draft).ok()["level_before"].clone();
    let named = json!({"user_id": pseudonym, "session_id": "s", "messages": [{"role": "user", "content": "hello"}]});
    assert_eq!(
        (&known, server.post("/v1/check", &named).ok()["level_before"].clone()),
        (&stands["level"], known.clone())
    );
    let litellm = json!({"texts": ["hello"], "input_type": "request", "litellm_trace_id": "t",
        "request_data": {"user_api_key_end_user_id": id}});
    server.post("/beta/litellm_basic_guardrail_api", &litellm).ok();
    let sessions = server.get(&format!("/v1/users/{id}")).ok()["sessions"].as_u64().unwrap();
    assert_eq!(sessions, stands["sessions"].as_u64().unwrap() + 1);
    assert_eq!(server.delete(&format!("/v1/users/{id}")).status, 204);
    assert_eq!(server.get(&format!("/v1/users/{pseudonym}")).status, 404);
    let (_, log) = server.stop();
    assert!(!log.contains("ada"), "{log}");
}
