//! Guard model families: how a history is written for a model, and where its verdict is read.
//!
//! Two ways of reading, one engine: [`message_heads`] (the embedded model: small heads at every
//! message's end, one prefill a window) and [`llama_guard`] (real Llama Guard checkpoints: the
//! probability of the verdict's words after the model's own chat template, [`verdict`]). This room
//! must not know tensors; it speaks in text, token ids, positions and logits.
//!
//! Message text is data. Whatever family: control tokens written in a message are tokenised as
//! plain text and can never open or close a turn.

use std::collections::BTreeMap;

pub mod categories;
pub mod llama_guard;
pub mod message_heads;
mod prompt;
mod structure;
pub mod template;
pub mod verdict;

pub use structure::neutralise;

/// What a guard needs of a tokenizer.
pub trait Tokenize {
    /// The token ids of text; no control token is ever among them.
    fn encode_text(&self, text: &str) -> Vec<u32>;

    /// For every token of text, the byte of the text at which it begins; `None` where the tokenizer
    /// does not tell. Tokens that share a character begin where it does.
    fn token_starts(&self, _text: &str) -> Option<Vec<usize>> {
        None
    }

    /// The control tokens of the vocabulary, by their text.
    fn control_tokens(&self) -> &BTreeMap<String, u32>;
}

/// Why a guard could not write or read a prompt.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GuardError {
    #[error("the tokenizer has no control token `{0}`; hint: this model is not of the family asked for")]
    ControlToken(String),
    #[error("chat template: {0}")]
    Template(String),
    #[error("categories: {0}")]
    Categories(String),
    #[error(
        "the model puts only {mass:.3} of its probability on the verdicts, at least {min:.3} is needed; hint: this checkpoint may not be a guard, or its template is another"
    )]
    Unsure { mass: f32, min: f32 },
}
