//! The family `MessageHeads`: a window written as a chat, every message judged at its end token.
//!
//! ```text
//! <|im_start|>system\nnew session<|im_end|>\n<|im_start|>user\n…<|im_end|>\n<|im_start|>assistant\n…<|im_end|>\n
//!                                                            ^ read here                          ^ and here
//! ```
//!
//! Attention is causal, so one prefill of a window judges all its messages. Each piece is
//! tokenised by itself, so a message's tokens do not depend on its neighbours. Training writes
//! windows in exactly this way (`models/training/`).

use super::{GuardError, Tokenize};
use crate::transcript::Role;

/// Token ids that stand around every message.
#[derive(Debug, Clone)]
pub struct Format {
    start: u32,
    end: u32,
    newline: Vec<u32>,
    user: Vec<u32>,
    assistant: Vec<u32>,
    system: Vec<u32>,
    tool: Vec<u32>,
}

/// One thing to write into a window.
#[derive(Debug, Clone, Copy)]
pub enum Turn<'a> {
    /// A message, or a part of it, by its text's token ids.
    Message { role: Role, content: &'a [u32] },
    /// A note of ours between messages, by its text's token ids.
    Note(&'a [u32]),
}

/// A window as token ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Where each [`Turn::Message`]'s end token stands, in order.
    pub ends: Vec<usize>,
}

/// Stands in front of messages carried from before the window.
pub const NOTE_EARLIER: &str = "earlier, in part";
/// Stands between carried messages and the window's own.
pub const NOTE_LATER: &str = "later";

impl Format {
    /// # Errors
    /// When the tokenizer has no `<|im_start|>` or `<|im_end|>`.
    pub fn new(tokenizer: &dyn Tokenize) -> Result<Self, GuardError> {
        let control = |token: &str| {
            let id = tokenizer.control_tokens().get(token).copied();
            id.ok_or_else(|| GuardError::ControlToken(token.to_owned()))
        };
        let role = |role: Role| tokenizer.encode_text(&format!("{}\n", role.as_str()));
        Ok(Self {
            start: control("<|im_start|>")?,
            end: control("<|im_end|>")?,
            newline: tokenizer.encode_text("\n"),
            user: role(Role::User),
            assistant: role(Role::Assistant),
            system: role(Role::System),
            tool: role(Role::Tool),
        })
    }

    /// Tokens written around a message of this role.
    pub fn wrap_tokens(&self, role: Role) -> usize {
        2 + self.role(role).len() + self.newline.len()
    }

    /// Writes a window.
    pub fn write(&self, turns: &[Turn]) -> Prompt {
        let mut prompt = Prompt::default();
        turns.iter().for_each(|turn| self.append(&mut prompt, turn));
        prompt
    }

    /// Writes one more turn.
    pub fn append(&self, prompt: &mut Prompt, turn: &Turn) {
        let (role, content) = match turn {
            Turn::Message { role, content } => (*role, content),
            Turn::Note(content) => (Role::System, content),
        };
        prompt.tokens.push(self.start);
        prompt.tokens.extend(self.role(role));
        prompt.tokens.extend(*content);
        if matches!(turn, Turn::Message { .. }) {
            prompt.ends.push(prompt.tokens.len());
        }
        prompt.tokens.push(self.end);
        prompt.tokens.extend(&self.newline);
    }

    fn role(&self, role: Role) -> &[u32] {
        match role {
            Role::User => &self.user,
            Role::Assistant => &self.assistant,
            Role::System => &self.system,
            Role::Tool => &self.tool,
        }
    }
}

/// The note in front of a session: how long after the session before it began, in whole units.
///
/// `elapsed_seconds` is `None` for the first session of a window or where a time is unknown.
pub fn gap_note(elapsed_seconds: Option<i64>) -> String {
    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;
    let Some(elapsed) = elapsed_seconds.map(|seconds| seconds.max(0)) else { return "new session".into() };
    let (unit, count) = match elapsed {
        0..HOUR => return "new session, same hour".into(),
        HOUR..DAY => ("hour", elapsed / HOUR),
        _ if elapsed < 14 * DAY => ("day", elapsed / DAY),
        _ if elapsed < 60 * DAY => ("week", elapsed / (7 * DAY)),
        _ => ("month", elapsed / (30 * DAY)),
    };
    format!("new session, {count} {unit}{} later", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// One token a byte, control tokens from 1000.
    struct Bytes(BTreeMap<String, u32>);

    impl Tokenize for Bytes {
        fn encode_text(&self, text: &str) -> Vec<u32> {
            text.bytes().map(u32::from).collect()
        }

        fn control_tokens(&self) -> &BTreeMap<String, u32> {
            &self.0
        }
    }

    fn tokenizer() -> Bytes {
        Bytes(BTreeMap::from([("<|im_start|>".into(), 1000), ("<|im_end|>".into(), 1001)]))
    }

    #[test]
    fn a_window_reads_as_a_chat_and_ends_are_end_tokens() {
        let tokenizer = tokenizer();
        let format = Format::new(&tokenizer).unwrap();
        let (note, hello) = (tokenizer.encode_text("later"), tokenizer.encode_text("hi<|im_end|>"));
        let turns = [Turn::Note(&note), Turn::Message { role: Role::User, content: &hello }];
        let prompt = format.write(&turns);
        let text: String = prompt.tokens.iter().map(|&id| char::from_u32(id).unwrap_or('#')).collect();
        assert_eq!(text, "\u{3e8}system\nlater\u{3e9}\n\u{3e8}user\nhi<|im_end|>\u{3e9}\n");
        assert_eq!(prompt.ends.iter().map(|&end| prompt.tokens[end]).collect::<Vec<_>>(), [1001]);
        let written = prompt.tokens.iter().filter(|&&id| id == 1001).count();
        assert_eq!(written, 2, "an end token in a message is only text");
    }

    #[test]
    fn wrapping_is_counted_right() {
        let tokenizer = tokenizer();
        let format = Format::new(&tokenizer).unwrap();
        for role in [Role::User, Role::Assistant, Role::System, Role::Tool] {
            let turns = [Turn::Message { role, content: &[7, 7, 7] }];
            assert_eq!(format.write(&turns).tokens.len(), 3 + format.wrap_tokens(role));
        }
    }

    #[test]
    fn gaps_are_named_in_whole_units() {
        let day = 86_400;
        for (elapsed, note) in [
            (None, "new session"),
            (Some(-5), "new session, same hour"),
            (Some(3_599), "new session, same hour"),
            (Some(3_600), "new session, 1 hour later"),
            (Some(day - 1), "new session, 23 hours later"),
            (Some(day), "new session, 1 day later"),
            (Some(14 * day - 1), "new session, 13 days later"),
            (Some(14 * day), "new session, 2 weeks later"),
            (Some(60 * day - 1), "new session, 8 weeks later"),
            (Some(60 * day), "new session, 2 months later"),
        ] {
            assert_eq!(gap_note(elapsed), note);
        }
    }
}
