//! Chat templates render byte for byte as transformers renders them.
//!
//! `tests/golden/templates/record.py` wrote the truth: 500 fuzzed chats through transformers' own
//! chat template code.

#![cfg(feature = "guard")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use throughline::guard::GuardError;
use throughline::guard::template::ChatTemplate;

#[derive(Deserialize)]
struct Case {
    name: String,
    bos_token: String,
    variables: BTreeMap<String, Value>,
    digests: Vec<String>,
    whole: Vec<String>,
}

/// Written as a list of pairs, and a map in that order for the template.
struct Pairs(Vec<(String, String)>);

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        self.0.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
        map.end()
    }
}

#[derive(Serialize)]
struct Variables {
    messages: Vec<Value>,
    bos_token: String,
    eos_token: &'static str,
    add_generation_prompt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Pairs>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn golden<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = fs::read_to_string(root().join("tests/golden/templates").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn template(name: &str) -> ChatTemplate {
    let name = name.split('+').next().unwrap();
    let built_in = root().join(format!("src/guard/llama_guard/{name}.jinja"));
    let own = root().join(format!("tests/golden/templates/{name}.jinja"));
    ChatTemplate::new(&fs::read_to_string(if built_in.exists() { built_in } else { own }).unwrap()).unwrap()
}

fn render(template: &ChatTemplate, case: &Case, chat: &[Value]) -> String {
    let messages: Vec<Value> = chat
        .iter()
        .map(|message| match case.name.starts_with("family3_1b") {
            true => json!({"role": message["role"], "content": [{"type": "text", "text": message["content"]}]}),
            false => message.clone(),
        })
        .collect();
    let mut others = case.variables.clone();
    let variables = Variables {
        messages,
        bos_token: case.bos_token.clone(),
        eos_token: "</s>",
        add_generation_prompt: true,
        categories: others.remove("categories").map(|pairs| Pairs(serde_json::from_value(pairs).unwrap())),
        others,
    };
    match template.render(&variables) {
        Ok(rendered) => rendered,
        Err(GuardError::Template(message)) => format!("!{}", message.split_once(": ").map_or("", |(_, said)| said)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn five_hundred_chats_render_as_in_transformers() {
    let chats: Vec<Vec<Value>> = golden("chats.json");
    let cases: Vec<Case> = golden("golden.json");
    assert_eq!((chats.len(), cases.len()), (500, 8));
    for case in &cases {
        let template = template(&case.name);
        assert_eq!(case.digests.len(), chats.len());
        for (index, chat) in chats.iter().enumerate() {
            let rendered = render(&template, case, chat);
            if let Some(whole) = case.whole.get(index) {
                assert_eq!(&rendered, whole, "{} of chat {index}", case.name);
            }
            let digest = match rendered.starts_with('!') {
                true => rendered.clone(),
                false => Sha256::digest(&rendered).iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            };
            assert_eq!(digest, case.digests[index], "{} of chat {index}: {chat:?}\n{rendered}", case.name);
        }
    }
}
