//! A `tokenizer.json` from the vocabulary inside a GGUF file (keys `tokenizer.ggml.*`, GGUF
//! specification), for files that come without one.

use candle_core::quantized::gguf_file::{Content, Value};
use serde_json::{Map, json};

use super::EngineError;

/// `tokenizer.ggml.token_type`: a control token.
const TYPE_CONTROL: i64 = 3;
/// `tokenizer.ggml.token_type`: a token that is matched in text before everything else.
const TYPE_USER_DEFINED: i64 = 4;

/// How Llama 3 cuts text into words before the merges (its `tokenizer.json`).
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Builds the JSON of a byte-level BPE tokenizer.
///
/// # Errors
/// When the file has no vocabulary, or one of a kind not known here (SentencePiece, another
/// pre-tokenizer): a guess would tokenise wrong without a word.
pub(super) fn tokenizer_json(content: &Content) -> Result<Vec<u8>, EngineError> {
    let model = string(content, "tokenizer.ggml.model")?;
    if model != "gpt2" {
        return Err(unsupported(format!("GGUF tokenizer `{model}`")));
    }
    let kind = string(content, "tokenizer.ggml.pre").unwrap_or("default");
    let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let pre_tokenizer = match kind {
        "smollm" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true}, byte_level(true)]}),
        "llama-bpe" | "llama3" | "llama-v3" => json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_WORDS}, "behavior": "Isolated", "invert": false},
            byte_level(false)]}),
        "default" | "gpt-2" => byte_level(true),
        other => return Err(unsupported(format!("GGUF pre-tokenizer `{other}`"))),
    };
    let tokens = strings(content, "tokenizer.ggml.tokens")?;
    let types = content.metadata.get("tokenizer.ggml.token_type").and_then(|value| value.to_vec().ok());
    let is_added = |id: usize| {
        let kind = types.and_then(|types| types.get(id)).and_then(|value| value.to_i32().ok()).map(i64::from);
        matches!(kind, Some(TYPE_CONTROL | TYPE_USER_DEFINED))
    };
    let added: Vec<_> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| is_added(*id))
        .map(|(id, token)| {
            json!({"id": id, "content": token, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
        })
        .collect();
    let vocab: Map<String, serde_json::Value> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let merges = strings(content, "tokenizer.ggml.merges")?;
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": kind.starts_with("llama"), "vocab": vocab, "merges": merges},
    });
    serde_json::to_vec(&json).map_err(|error| EngineError::Tokenizer(error.to_string()))
}

fn unsupported(what: String) -> EngineError {
    EngineError::Unsupported(format!("{what}; hint: put the model's tokenizer.json beside the .gguf file"))
}

fn string<'a>(content: &'a Content, key: &str) -> Result<&'a str, EngineError> {
    let value = content.metadata.get(key).ok_or_else(|| EngineError::Missing(key.to_owned()))?;
    Ok(value.to_string()?)
}

fn strings<'a>(content: &'a Content, key: &str) -> Result<Vec<&'a str>, EngineError> {
    let value: &Value = content.metadata.get(key).ok_or_else(|| EngineError::Missing(key.to_owned()))?;
    value.to_vec()?.iter().map(|item| Ok(item.to_string()?.as_str())).collect()
}
