//! Message text on its way into a prompt, whatever it says.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use throughline::engine::{ModelSource, Tokenizer, load};
use throughline::guard::llama_guard::{Family, GuardMessage, GuardSettings, LlamaGuard};
use throughline::guard::message_heads::{Format, Turn};
use throughline::guard::{Tokenize, neutralise};
use throughline::transcript::Role;

/// Llama 3's control tokens over 600 pieces of text.
pub fn llama3() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let json = include_bytes!("../../../tests/golden/templates/tokenizer.json");
        Tokenizer::from_json(json).expect("a tokenizer")
    })
}

/// That of the embedded model.
fn embedded() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| load(&ModelSource::Embedded).expect("the embedded model").tokenizer)
}

/// The control tokens among tokens, in order.
pub fn controls(tokens: &[u32], tokenizer: &dyn Tokenize) -> Vec<u32> {
    let is_control = |id: &u32| tokenizer.control_tokens().values().any(|control| control == id);
    tokens.iter().copied().filter(is_control).collect()
}

/// One token a character, and control tokens that no character is: a prompt can be read again.
struct Letters(BTreeMap<String, u32>);

const FIRST_CONTROL: u32 = 2_000_000;

impl Letters {
    fn new() -> Self {
        let names = ["<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"];
        Self(names.into_iter().map(str::to_owned).zip(FIRST_CONTROL..).collect())
    }
}

impl Tokenize for Letters {
    fn encode_text(&self, text: &str) -> Vec<u32> {
        text.chars().map(u32::from).collect()
    }

    fn control_tokens(&self) -> &BTreeMap<String, u32> {
        &self.0
    }
}

/// Messages, divided by zero bytes: none of them opens or closes a turn in any family's prompt, nor becomes a control token.
pub fn hostile(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let contents: Vec<&str> = text.split('\0').take(8).collect();
    for content in &contents {
        let (once, _) = neutralise(content);
        assert_eq!(neutralise(&once), (once.clone(), 0), "neutralised twice");
        for tokenizer in [llama3(), embedded()] {
            assert!(controls(&tokenizer.encode_text(content), tokenizer).is_empty(), "{content:?}");
        }
    }
    message_heads(&contents);
    let letters = Letters::new();
    for family in Family::ALL {
        let settings = GuardSettings { family: Some(family), ..GuardSettings::default() };
        let guard = |tokenizer: &dyn Tokenize| LlamaGuard::new(settings, tokenizer).expect("a built-in template");
        let plain = vec!["hello"; contents.len()];
        let structure = |contents: &[&str]| {
            let prompt = guard(&letters).prompt(&alternating(contents), &letters).expect("a prompt");
            (controls(&prompt.tokens, &letters), turns(&prompt.tokens))
        };
        assert_eq!(structure(&contents), structure(&plain), "{family:?}");
        let controls = |contents: &[&str]| {
            let prompt = guard(llama3()).prompt(&alternating(contents), llama3()).expect("a prompt");
            controls(&prompt.tokens, llama3())
        };
        assert_eq!(controls(&contents), controls(&plain), "{family:?}");
    }
}

/// As the embedded model reads: a message ends where its end was written, and nowhere else.
fn message_heads(contents: &[&str]) {
    let tokenizer = embedded();
    let format = Format::new(tokenizer).expect("the control tokens of a chat");
    let tokens: Vec<Vec<u32>> = contents.iter().map(|content| tokenizer.encode_text(content)).collect();
    let turns: Vec<Turn> = tokens.iter().map(|content| Turn::Message { role: Role::User, content }).collect();
    let prompt = format.write(&turns);
    let control = |name: &str| tokenizer.control_tokens()[name];
    let places = |id: u32| -> Vec<usize> { (0..prompt.tokens.len()).filter(|&at| prompt.tokens[at] == id).collect() };
    assert_eq!(places(control("<|im_end|>")), prompt.ends);
    assert_eq!(places(control("<|im_start|>")).len(), contents.len());
}

fn alternating(contents: &[&str]) -> Vec<GuardMessage> {
    let role = |index: usize| if index.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let message = |(index, content): (usize, &&str)| GuardMessage {
        role: role(index),
        note: None,
        content: (*content).to_owned(),
        continues: false,
    };
    contents.iter().enumerate().map(message).collect()
}

/// How many lines of the conversation begin a turn, and how often each mark stands there.
fn turns(tokens: &[u32]) -> (usize, [usize; 5]) {
    let text: String = tokens.iter().map(|&id| char::from_u32(id).unwrap_or('\u{fffd}')).collect();
    let marks = ["<BEGIN CONVERSATION>", "<END CONVERSATION>", "<END UNSAFE CONTENT CATEGORIES>", "[INST]", "[/INST]"];
    let (_, conversation) = text.split_once(marks[0]).expect("a conversation");
    let begins = |line: &&str| line.starts_with("User: ") || line.starts_with("Agent: ");
    (conversation.lines().filter(begins).count(), marks.map(|mark| text.matches(mark).count()))
}
