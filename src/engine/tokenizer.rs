//! Text to token ids, with control tokens out of the reach of text.

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use serde_json::{Map, Value};
use tokenizers::Tokenizer as HfTokenizer;

use super::EngineError;
use crate::guard::Tokenize;

/// A Hugging Face `tokenizer.json`.
///
/// Message text is tokenised by a copy that knows no added tokens, so that `<|im_end|>` written in
/// a message becomes the letters it is made of and can never close a turn.
pub struct Tokenizer {
    text: HfTokenizer,
    controls: BTreeMap<String, u32>,
}

/// Texts that every tokenizer can read.
const PROBES: [&str; 6] = [
    "",
    " ",
    "\n\n",
    "I'll see you at 8, won't I?\tYes - 100%.",
    "Der Müller aß 1½ Äpfel; \u{3C0} ≈ 3",
    "你好，世界 🙂👩‍👩‍👧 e\u{301}\u{200B}",
];
/// The largest `tokenizer.json` that is read, in bytes.
const TOKENIZER_BYTES_MAX: usize = 64 << 20;

impl Tokenizer {
    /// # Errors
    /// When the JSON is too large, not a tokenizer, or of a kind the `tokenizers` library does not know.
    pub fn from_json(json: &[u8]) -> Result<Self, EngineError> {
        if json.len() > TOKENIZER_BYTES_MAX {
            return Err(EngineError::Shape {
                name: "tokenizer.json bytes",
                value: json.len(),
                max: TOKENIZER_BYTES_MAX,
            });
        }
        let bad = |error: String| EngineError::Tokenizer(error);
        let mut value: Map<String, Value> = serde_json::from_slice(json).map_err(|error| bad(error.to_string()))?;
        let controls = added_tokens(&value);
        strip_added_tokens(&mut value, &controls);
        let plain = serde_json::to_vec(&value).map_err(|error| bad(error.to_string()))?;
        let text = read(&plain).map_err(bad)?;
        Ok(Self { text, controls })
    }

    /// One more than the greatest id of a token, control tokens included: every id is less.
    pub fn vocab_size(&self) -> usize {
        let last = self.text.get_vocab(false).into_values().chain(self.controls.values().copied()).max();
        last.map_or(0, |id| id as usize + 1)
    }
}

impl Tokenize for Tokenizer {
    fn encode_text(&self, text: &str) -> Vec<u32> {
        // `encode_fast` fails only for malformed pre-tokenised input, which a string is not.
        self.text.encode_fast(text, false).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }

    fn token_starts(&self, text: &str) -> Option<Vec<usize>> {
        let encoding = self.text.encode(text, false).ok()?;
        Some(encoding.get_offsets().iter().map(|(start, _)| *start).collect())
    }

    fn control_tokens(&self) -> &BTreeMap<String, u32> {
        &self.controls
    }
}

/// A tokenizer that can read texts of every kind. Some merges and some chains of normalisers, of a file that may come from anywhere, panic in
/// `tokenizers` 0.23, when they are read or with a text: that is found out here, not amid a history.
fn read(json: &[u8]) -> Result<HfTokenizer, String> {
    let read = || {
        let text = HfTokenizer::from_bytes(json)?;
        PROBES.iter().try_for_each(|probe| text.encode_fast(*probe, false).map(drop))?;
        Ok(text)
    };
    let read: Result<_, tokenizers::Error> = catch_unwind(read).map_err(|_| {
        "it is of no use, or fails on plain text; hint: is the file whole, and does it come from where the model does?".to_owned()
    })?;
    read.map_err(|error| error.to_string())
}

fn added_tokens(tokenizer: &Map<String, Value>) -> BTreeMap<String, u32> {
    let added = tokenizer.get("added_tokens").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    added
        .iter()
        .filter_map(|token| {
            let id = u32::try_from(token["id"].as_u64()?).ok()?;
            Some((token["content"].as_str()?.to_owned(), id))
        })
        .collect()
}

/// Takes away whatever turns text into control tokens or adds them around it: the added tokens
/// themselves, their entries in the vocabulary (the unknown token's excepted), the post-processor.
fn strip_added_tokens(tokenizer: &mut Map<String, Value>, controls: &BTreeMap<String, u32>) {
    tokenizer.insert("added_tokens".into(), Value::Array(Vec::new()));
    for name in ["post_processor", "truncation", "padding"] {
        tokenizer.insert(name.into(), Value::Null);
    }
    let Some(model) = tokenizer.get_mut("model") else { return };
    let unknown = model.get("unk_token").and_then(Value::as_str).map(str::to_owned);
    if let Some(vocabulary) = model.get_mut("vocab").and_then(Value::as_object_mut) {
        vocabulary.retain(|token, _| !controls.contains_key(token) || Some(token) == unknown.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_tokenizer_is_an_error() {
        for json in [
            "\"by\"",
            "[]",
            "7",
            "null",
            "{}",
            r#"{"model": "by"}"#,
            r#"{"model": ["vocab"]}"#,
            r#"{"added_tokens": 7, "model": {}}"#,
        ] {
            assert!(Tokenizer::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn every_id_is_less_than_the_size_though_control_tokens_come_first() {
        let json = r#"{"version": "1.0", "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}], "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": {"<s>": 0, "good": 1, "morning": 2}, "unk_token": "good"}}"#;
        let tokenizer = Tokenizer::from_json(json.as_bytes()).unwrap();
        assert_eq!((tokenizer.encode_text("good morning"), tokenizer.vocab_size()), (vec![1, 2], 3));
    }
}
