//! Clients that operators use, against the sidecar: the examples, and OpenAI's own SDK.

#![cfg(feature = "server")]

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use serve_support::cli_support::{calm_policy, folder, text, write};
use serve_support::other::Other;
use serve_support::{EAGER, PATIENCE, Server};

mod serve_support;

/// What an example says, if the program and what it needs are there.
fn run(program: &str, server: &Server, example: &str, arguments: &[&str]) -> Option<Output> {
    let script = format!("{}/examples/sidecar/{example}", env!("CARGO_MANIFEST_DIR"));
    let run = Command::new(program)
        .arg(script)
        .args(arguments)
        .env("THROUGHLINE_URL", &server.url)
        .env_remove("THROUGHLINE_TOKEN")
        .output();
    match run {
        Ok(output)
            if ["No module named 'openai'", "Cannot find module 'openai'"]
                .iter()
                .any(|missing| text(&output.stderr).contains(missing)) =>
        {
            eprintln!(
                "SKIPPED: the SDK is not installed; hint: pip install openai, and THROUGHLINE_PYTHON names that Python; npm install openai, \
                 and NODE_PATH names its node_modules"
            );
            None
        }
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIPPED: no {program}: {error}");
            None
        }
    }
}

/// A Python with what the examples need: `THROUGHLINE_PYTHON`, or the one on the path.
fn python(server: &Server, example: &str, arguments: &[&str]) -> Option<Output> {
    let python = std::env::var("THROUGHLINE_PYTHON").unwrap_or_else(|_| "python3".into());
    run(&python, server, example, arguments)
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
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    assert!(text(&run.stdout).contains("in the history of demo"), "{run:?}");
}

#[test]
fn openais_sdk_for_node_reads_what_is_answered() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let Some(run) = run("node", &server, "moderation_openai.cjs", &[]) else { return };
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    assert!(text(&run.stdout).contains("in the history of demo"), "{run:?}");
}

/// What stands in `examples/sidecar/README.md` for curl, line by line.
#[test]
fn the_lines_for_curl_are_answered() {
    let home = folder();
    let server = Server::start(home.path(), &[]);
    let readme = include_str!("../examples/sidecar/README.md");
    let lines = readme.split("```sh\njson=").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let address = server.url.strip_prefix("http://").unwrap();
    // Every curl fails where it is not answered with success.
    let script = format!("set -e\njson={}", lines.replace("localhost:8787", address).replace("curl -s ", "curl -sSf "));
    let run = match Command::new("sh").args(["-c", &script]).output() {
        Ok(run) if run.status.code() == Some(127) => return eprintln!("SKIPPED: no curl"),
        run => run.unwrap(),
    };
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    assert!(text(&run.stdout).contains("\"messages_kept\":1") && text(&run.stdout).contains("\"alarms\":"), "{run:?}");
}

#[test]
#[cfg(feature = "outbound")]
fn openais_sdk_chats_through_the_proxy() {
    let home = folder();
    let other = Other::start(|asked, socket| {
        let chunk = |text: &str| {
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
        };
        let (kind, body) = match asked["stream"].as_bool() {
            Some(true) => {
                let events: String = ["Once ", "upon ", "a time"].iter().map(|text| format!("data: {}\n\n", chunk(text))).collect();
                ("text/event-stream", events + "data: [DONE]\n\n")
            }
            _ => ("application/json", json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Good morning to you"}, "finish_reason": "stop"}]}).to_string()),
        };
        write!(socket, "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}").unwrap();
    });
    let policy = calm_policy(&home);
    let server = Server::start(home.path(), &["--upstream", &other.url, "--policy", policy.to_str().unwrap()]);
    let Some(run) = python(&server, "proxy_openai.py", &[]) else { return };
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    let told = text(&run.stdout);
    assert!(told.contains("Good morning to you") && told.contains("Once upon a time"), "{told}");
    assert_eq!(server.get("/v1/users/demo").ok()["messages"], 4);
}

/// LiteLLM's proxy by `examples/sidecar/litellm.yaml`: what goes through it is judged and kept.
#[test]
fn litellm_asks_before_and_after_the_model() {
    const KEY: &str = "sk-9f3c1b7a5e2d4860";
    let Ok(litellm) = std::env::var("THROUGHLINE_LITELLM") else {
        return eprintln!(
            "SKIPPED: no LiteLLM; hint: pip install 'litellm[proxy]', and THROUGHLINE_LITELLM names its program"
        );
    };
    let home = folder();
    let policy = calm_policy(&home);
    let data = folder();
    let server = Server::start(data.path(), &["--policy", policy.to_str().unwrap()]);
    let model = Other::start(|_, socket| {
        let reply = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "your-model",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Good morning to you"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
        write!(socket, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{reply}")
            .unwrap();
    });
    let example = include_str!("../examples/sidecar/litellm.yaml");
    let config = example.replace("http://127.0.0.1:8000/v1", &model.url).replace("http://127.0.0.1:8787", &server.url);
    let config = write(&home, "litellm.yaml", &config);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut proxy = Command::new(litellm)
        .args(["--config", config.to_str().unwrap(), "--host", "127.0.0.1", "--port", &free.to_string()])
        .env("THROUGHLINE_TOKEN", "none")
        .env("LITELLM_MASTER_KEY", KEY)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let asked = json!({"model": "assistant", "user": "ada", "messages": [{"role": "user", "content": "Good morning"}]})
        .to_string();
    let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
    let begun = Instant::now();
    let reply = loop {
        let answer = agent
            .post(format!("http://127.0.0.1:{free}/v1/chat/completions"))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {KEY}"))
            .send(&asked);
        match answer {
            Ok(mut reply) => break reply.body_mut().read_to_string().unwrap(),
            Err(error) if begun.elapsed() > 3 * PATIENCE => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
        }
    };
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    assert!(reply.contains("Good morning to you"), "{reply}");
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], 2);
}

#[test]
fn litellm_is_told_to_block_what_cannot_be_kept() {
    let home = folder();
    let policy = write(&home, "eager.toml", EAGER);
    let more = ["--policy", policy.to_str().unwrap(), "--history-messages-max", "4"];
    let server = Server::start(home.path(), &more);
    let ask = |kind: &str, text: &str, call: &str, block_at: &str| {
        let asked = json!({
            "texts": [text], "input_type": kind, "litellm_call_id": call, "litellm_trace_id": "chat-1",
            "request_data": {"user_api_key_end_user_id": "ada"}, "additional_provider_specific_params": {"block_at": block_at}
        });
        server.post("/beta/litellm_basic_guardrail_api", &asked)
    };
    let said =
        [("request", "the garden"), ("response", "rain tonight"), ("request", "she was there"), ("response", "they")];
    for (number, (kind, text)) in said.into_iter().enumerate() {
        ask(kind, text, &format!("c{}", number / 2), "none").ok();
    }
    let full = "my street, they sent a sign";
    assert!(ask("request", full, "c3", "none").problem(507).contains("--history-messages-max"));
    assert_eq!(ask("request", full, "c3", "review").ok()["action"], "BLOCKED");
    server.until_logged("a turn that is blocked could not be kept");
    assert!(!server.log().contains("my street"), "{}", server.log());
    assert_eq!(server.get("/v1/users/ada").ok()["messages"], 4);
}
