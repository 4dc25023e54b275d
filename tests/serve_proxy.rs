//! The sidecar as a proxy: nothing of a blocked reply reaches a client, and everything else does as it came.

#![cfg(feature = "outbound")]

use std::io::Write;
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use serve_support::cli_support::{folder, write};
use serve_support::other::{Asked, Other};
use serve_support::proxied::*;
use serve_support::{Reply, Server};

mod serve_support;

#[test]
fn a_reply_passes_as_it_came_and_both_sides_are_kept() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Good morning to you!"));
    let server = proxy(home.path(), &upstream, &[]);
    let first = asks(&[("system", "Be kind."), ("user", "Good morning")]);
    let headers = [("authorization", "Bearer sk-caller"), ("x-throughline-session", "s1"), ("cookie", "no")];
    let reply = server.post_with(CHAT, &headers, &first);
    assert_eq!((reply.status, reply.text.as_str()), (200, completion("Good morning to you!").as_str()));
    assert_eq!(reply.header("x-throughline-level"), Some("none"));
    assert_eq!((reply.header("x-request-id"), reply.header("set-cookie")), (Some("r1"), None));
    let asked = upstream.asked();
    assert_eq!(asked.body, first.to_string());
    assert!(asked.headers.contains("authorization: bearer sk-caller"), "{}", asked.headers);
    assert!(!asked.headers.contains("throughline") && !asked.headers.contains("cookie"), "{}", asked.headers);
    assert_eq!(count(&server), 2);
    // The client sends everything again: what is new is kept.
    let more = [("user", "Good morning"), ("assistant", "Good morning to you!"), ("user", "It rains")];
    server.post_with(CHAT, &headers, &asks(&more)).ok();
    assert_eq!(count(&server), 4);
    // The same once more, for another reply: the user said it once.
    server.post_with(CHAT, &headers, &asks(&more)).ok();
    assert_eq!(count(&server), 5);
    let stands = server.get("/v1/users/ada").ok();
    assert_eq!(stands["sessions"], 1, "{stands}");
    assert!(
        server.log().lines().all(|line| !line.contains("morning") && !line.contains("sk-caller")),
        "{}",
        server.log()
    );
}

#[test]
fn of_a_user_who_is_not_known_the_whole_conversation_is_taken_in() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &[]);
    let texts = [("user", "One"), ("assistant", "Two"), ("user", "Three")];
    server.post(CHAT, &asks(&texts)).ok();
    assert_eq!(count(&server), 4);
    server.post(CHAT, &asks(&texts)).ok();
    assert_eq!(count(&server), 5, "asked again, it is kept once");
    // Without a session's name the first message makes one: another conversation is another session.
    server.post(CHAT, &asks(&[("user", "Uno")])).ok();
    assert_eq!(server.get("/v1/users/ada").ok()["sessions"], 2);
}

#[test]
fn a_reply_that_the_client_begins_hides_no_prompt() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &[]);
    let begun = asks(&[("user", "Hello"), ("assistant", "")]);
    let reply = server.post(CHAT, &begun);
    assert_eq!((reply.status, reply.header("x-throughline-level")), (200, Some("none")), "{reply:?}");
    assert_eq!(upstream.asked().body, begun.to_string());
    assert_eq!(count(&server), 2);
    // Gone on with, it is another reply to the same prompt.
    server.post(CHAT, &asks(&[("user", "Hello"), ("assistant", "Good mor")])).ok();
    assert_eq!(count(&server), 3);
}

#[test]
fn a_reply_in_parts_is_read() {
    let home = folder();
    let upstream = Other::start(|_, socket| {
        let parts = json!([{"type": "text", "text": "Good morning "}, {"type": "text", "text": "to you!"}]);
        let reply = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": parts}}]});
        sent(socket, "application/json", &reply.to_string());
    });
    let server = proxy(home.path(), &upstream, &[]);
    server.post(CHAT, &asks(&[("user", "Hello")])).ok();
    assert_eq!(count(&server), 2);
}

#[test]
fn of_a_long_conversation_as_much_is_taken_in_as_one_turn_may_hold() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &["--turn-bytes-max", "256"]);
    let long = "it rains ".repeat(20);
    let texts = [("user", "One"), ("assistant", &*long), ("user", "Two"), ("assistant", "Three"), ("user", &*long)];
    // The last user message and the two before it fit; what came before would not.
    server.post(CHAT, &asks(&texts)).ok();
    assert_eq!(count(&server), 4);
    server.until_logged("its beginning is not taken in");
    assert!(server.log().contains("messages=2"), "{}", server.log());
    // What is new is never cut: it is refused.
    assert!(server.post(CHAT, &asks(&[("user", &long.repeat(2))])).problem(413).contains("--turn-bytes-max"));
}

#[test]
fn whoever_does_not_say_whose_it_is_is_told() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &[]);
    let told = server.post(CHAT, &json!({"messages": [{"role": "user", "content": "x"}]})).problem(422);
    assert!(told.contains("X-Throughline-User"), "{told}");
    upstream.was_not_asked();
    let named = [("x-throughline-user", "bo")];
    server.post_with(CHAT, &named, &json!({"messages": [{"role": "user", "content": "x"}]})).ok();
    assert_eq!(server.get("/v1/users/bo").ok()["messages"], 2);
}

#[test]
fn a_blocked_prompt_goes_nowhere_and_is_kept() {
    let home = folder();
    let eager = strict(-1.0).replacen("[levels.review]\nscore_min = 1.0", "[levels.review]\nscore_min = 0.0", 1);
    let eager = eager.replacen("[levels.watch]\nscore_min = 1.0", "[levels.watch]\nscore_min = 0.0", 1);
    let policy = write(&home, "eager.toml", &eager);
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let server = proxy(home.path(), &upstream, &["--policy", policy.to_str().unwrap(), "--block-at", "review"]);
    let reply = server.post(CHAT, &asks(&[("user", ASKED)]));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!("content_filter")), "{reply:?}");
    assert_eq!(reply.header("x-throughline-level"), Some("review"));
    assert!(reply.header("x-throughline-alarm").is_some());
    upstream.was_not_asked();
    assert_eq!(count(&server), 1);
}

#[test]
fn an_upstream_that_fails_is_told_as_it_is() {
    let upstream = Other::start(|asked, socket| match asked["how"].as_str().unwrap() {
        "busy" => {
            write!(socket, "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{{\"error\": 1}}").unwrap();
        }
        "silent" => std::thread::sleep(Duration::from_millis(1_500)),
        "odd" => {
            let message = json!({"role": "assistant", "content": {"text": "what is this"}});
            sent(socket, "application/json", &json!({"choices": [{"index": 0, "message": message}]}).to_string());
        }
        "html" => {
            head(socket, "200 OK", "text/html");
            socket.write_all(b"<p>hello").unwrap();
        }
        "broken" => {
            write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n{}",
                chunk("Good morning, my friend")
            )
            .unwrap();
        }
        "strange" => {
            head(socket, "200 OK", "text/event-stream");
            write!(socket, "{}data: what is this\n\n", chunk("Good morning")).unwrap();
        }
        _ => {
            head(socket, "200 OK", "application/json");
            socket.write_all(completion(&"long ".repeat(2_000)).as_bytes()).unwrap();
        }
    });
    let home = folder();
    let server = proxy(home.path(), &upstream, &["--upstream-seconds", "1", "--reply-bytes-max", "5000"]);
    let ask = |how: &str| {
        let mut asked = asks(&[("user", how)]);
        asked["how"] = json!(how);
        server.post(CHAT, &asked)
    };
    let busy = ask("busy");
    assert_eq!((busy.status, busy.header("retry-after"), busy.text.as_str()), (429, Some("7"), "{\"error\": 1}"));
    assert!(ask("silent").problem(504).contains("silent"));
    assert!(ask("html").problem(502).contains("no chat completion"));
    assert!(ask("odd").problem(502).contains("no chat completion"));
    assert!(ask("long").problem(502).contains("--reply-bytes-max"));
    let broken = ask("broken");
    assert!(broken.text.contains("broke off") && !broken.text.contains("[DONE]"), "{broken:?}");
    let strange = ask("strange");
    assert!(strange.text.contains("no chunk") && !strange.text.contains("what is this"), "{strange:?}");
    let nobody = Other { url: "http://127.0.0.1:9/v1".into(), asked: channel().1 };
    let home = folder();
    let server = proxy(home.path(), &nobody, &[]);
    assert!(server.post(CHAT, &asks(&[("user", "Hello")])).problem(502).contains("cannot be reached"));
    assert_eq!(count(&server), 1, "what the user said is kept");
}

#[test]
fn where_no_verdict_can_be_had_the_policy_says_what_becomes_of_it() {
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let hasty = [("x-deadline-ms", "1")];
    let long = "she was there again and it rains ".repeat(60);
    for (on_failure, passes) in [("open", true), ("closed", false)] {
        let home = folder();
        let policy = strict(2.0).replace("[levels.none]", &format!("[levels.none]\non_failure = \"{on_failure}\""));
        let policy = write(&home, "policy.toml", &policy);
        let server = proxy(home.path(), &upstream, &["--policy", policy.to_str().unwrap()]);
        let reply = server.post_with(CHAT, &hasty, &asks(&[("user", &long)]));
        if passes {
            // Its reply may have been judged in time.
            let level = reply.header("x-throughline-level");
            assert!(reply.status == 200 && level.is_none_or(|level| level == "none"), "{reply:?}");
            upstream.asked();
            // It is kept as soon as it can be.
            kept(&server, 2);
            assert!(server.get("/metrics").text.contains("result=\"unjudged\""));
        } else {
            assert!(reply.problem(503).contains("deadline"));
            upstream.was_not_asked();
        }
    }
}

#[test]
fn a_reply_is_not_kept_before_its_prompt() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let policy = strict(2.0).replace("[levels.none]", "[levels.none]\non_failure = \"open\"");
    let policy = write(&home, "policy.toml", &policy);
    let more = ["--policy", policy.to_str().unwrap(), "--history-messages-max", "3"];
    let server = proxy(home.path(), &upstream, &more);
    server.post(CHAT, &asks(&[("user", "One")])).ok();
    assert_eq!(count(&server), 2);
    // Two messages more have no room, and the reply alone would have.
    server.post(CHAT, &asks(&[("user", "One"), ("assistant", "Yes."), ("user", "Two"), ("user", "Three")])).ok();
    assert_eq!(count(&server), 2);
}

#[test]
fn a_token_of_the_servers_own_goes_nowhere_else() {
    let home = folder();
    let upstream = Other::start(|_, socket| whole(socket, "Yes."));
    let sha256: String = throughline::server::digest("tl_own").iter().map(|byte| format!("{byte:02x}")).collect();
    let tokens = format!("[[tokens]]\nname = \"bot\"\nsha256 = \"{sha256}\"\nscopes = [\"ingest\"]\n");
    let tokens = write(&home, "tokens.toml", &tokens);
    let arguments = ["--tokens", tokens.to_str().unwrap()];
    let ask = |server: &Server, headers: &[(&str, &str)]| -> (Reply, Option<Asked>) {
        let reply = server.post_with(CHAT, headers, &asks(&[("user", "Hello")]));
        (reply, upstream.asked.try_recv().ok())
    };
    let server = proxy(folder().path(), &upstream, &arguments);
    let (reply, asked) = ask(&server, &[("authorization", "Bearer sk-other")]);
    assert!(reply.status == 401 && asked.is_none(), "{reply:?}");
    let (_, asked) = ask(&server, &[("authorization", "Bearer tl_own")]);
    assert!(!asked.unwrap().headers.contains("authorization"));
    let (_, asked) = ask(&server, &[("x-api-key", "tl_own"), ("authorization", "Bearer sk-other")]);
    let headers = asked.unwrap().headers;
    assert!(headers.contains("bearer sk-other") && !headers.contains("tl_own"), "{headers}");
    let (_, asked) = ask(&server, &[("x-api-key", "tl_own"), ("authorization", "Bearer tl_own")]);
    assert!(!asked.unwrap().headers.contains("tl_own"), "though it is sent twice");
    let key = write(&home, "key", "sk-configured\n");
    let with_key = [&arguments[..], &["--upstream-key-file", key.to_str().unwrap()]].concat();
    let server = proxy(folder().path(), &upstream, &with_key);
    let (_, asked) = ask(&server, &[("x-api-key", "tl_own"), ("authorization", "Bearer sk-other")]);
    assert!(asked.unwrap().headers.contains("bearer sk-configured"));
}
