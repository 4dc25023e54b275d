//! Reading a history through message heads: one prefill a window.

use jiff::Timestamp;

use super::{Reading, ReadingNotes, ScoreError, ScoredMessage};
use crate::arc::MessageAt;
use crate::engine::{HeadLogits, Model, Tokenizer};
use crate::guard::message_heads::{Format, NOTE_EARLIER, NOTE_LATER, Prompt, Turn, gap_note};
use crate::guard::{GuardError, Tokenize};
use crate::scoring::{CumulativeLogits, MessageScore, at_least, expected_stance};
use crate::transcript::{History, Role};
use crate::window::{Item, Window, WindowSpec, choose_carried, plan};

/// Evidence below this weight is not carried into later windows.
const CARRIED_WEIGHT_MIN: f32 = 0.2;

/// A scored message with its text as token ids.
struct Entry {
    at: MessageAt,
    role: Role,
    content: Vec<u32>,
    /// Of the message's session.
    session_start: Option<Timestamp>,
}

pub(super) struct HeadReader {
    format: Format,
    note_earlier: Vec<u32>,
    note_later: Vec<u32>,
}

impl HeadReader {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, GuardError> {
        Ok(Self {
            format: Format::new(tokenizer)?,
            note_earlier: tokenizer.encode_text(NOTE_EARLIER),
            note_later: tokenizer.encode_text(NOTE_LATER),
        })
    }

    pub fn read(
        &self,
        model: &Model,
        spec: &WindowSpec,
        history: &History,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Reading, ScoreError> {
        let entries = entries(history, &model.tokenizer);
        let items: Vec<Item> = self.items(&entries, &model.tokenizer);
        let plan = plan(&items, spec)?;
        let mut notes = ReadingNotes {
            windows: plan.windows.len(),
            split_messages: plan.split_messages,
            shortened_contexts: plan.shortened_contexts,
            kept_apart: history.message_count() - entries.len(),
            ..ReadingNotes::default()
        };
        let mut scores: Vec<Option<MessageScore>> = vec![None; entries.len()];
        let mut weights = vec![0.0; entries.len()];
        for window in &plan.windows {
            let carried = choose_carried(&items, &weights, window.first_item(), window.carried_tokens_max);
            let prompt = self.prompt(&entries, window, &carried, &model.tokenizer);
            notes.tokens += prompt.tokens.len();
            // The fresh pieces are the last messages of the prompt.
            let ends = &prompt.ends[prompt.ends.len() - window.fresh.len()..];
            let logits = model.head_logits(&[(&prompt.tokens, ends)])?.pop().unwrap_or_default();
            for (piece, logits) in window.fresh.iter().zip(&logits) {
                let score = MessageScore::from_logits(entries[piece.item].role, &cumulative(logits));
                let pooled = scores[piece.item].map_or(score, |before| before.pooled(score));
                scores[piece.item] = Some(pooled);
                weights[piece.item] = carried_weight(&pooled);
            }
            progress(window.fresh.last().map_or(0, |piece| piece.item + 1));
        }
        let messages = entries
            .iter()
            .zip(scores)
            .map(|(entry, score)| ScoredMessage {
                at: entry.at,
                role: entry.role,
                score: score.unwrap_or(MessageScore::NOTHING),
                categories: Vec::new(),
            })
            .collect();
        Ok((messages, notes))
    }

    fn items(&self, entries: &[Entry], tokenizer: &Tokenizer) -> Vec<Item> {
        (0..entries.len())
            .map(|index| {
                let gap_tokens = match self.gap(entries, index, 0, tokenizer) {
                    Some(note) => note.len() + self.format.wrap_tokens(Role::System),
                    None => 0,
                };
                Item {
                    content_tokens: entries[index].content.len(),
                    wrap_tokens: self.format.wrap_tokens(entries[index].role),
                    gap_tokens,
                }
            })
            .collect()
    }

    /// The gap note in front of an entry, when it is the first of its session, or of the window.
    fn gap(&self, entries: &[Entry], index: usize, window_first: usize, tokenizer: &Tokenizer) -> Option<Vec<u32>> {
        let entry = &entries[index];
        let before = index.checked_sub(1).map(|before| &entries[before]);
        let new_session = before.is_none_or(|before| before.at.session != entry.at.session);
        if !new_session && index != window_first {
            return None;
        }
        let elapsed = if index == window_first {
            None
        } else {
            before.and_then(|b| Some(entry.session_start?.duration_since(b.session_start?).as_secs()))
        };
        Some(tokenizer.encode_text(&gap_note(elapsed)))
    }

    fn prompt(&self, entries: &[Entry], window: &Window, carried: &[usize], tokenizer: &Tokenizer) -> Prompt {
        let first = window.first_item();
        let pieces: Vec<_> = window.context.iter().chain(&window.fresh).collect();
        // Notes are written once a window and session; their ids must outlive the turns.
        let gaps: Vec<Option<Vec<u32>>> = pieces
            .iter()
            .enumerate()
            .map(|(i, piece)| {
                let repeated = i > 0 && pieces[i - 1].item == piece.item;
                if repeated { None } else { self.gap(entries, piece.item, first, tokenizer) }
            })
            .collect();
        let mut turns = Vec::with_capacity(2 * pieces.len() + carried.len() + 2);
        if first > 0 {
            // Written even when nothing is carried: it says that the history began before.
            turns.push(Turn::Note(&self.note_earlier));
            turns.extend(
                carried.iter().map(|&item| Turn::Message { role: entries[item].role, content: &entries[item].content }),
            );
            turns.push(Turn::Note(&self.note_later));
        }
        for (piece, gap) in pieces.iter().zip(&gaps) {
            turns.extend(gap.as_ref().map(|note| Turn::Note(note)));
            let entry = &entries[piece.item];
            turns.push(Turn::Message { role: entry.role, content: &entry.content[piece.content.clone()] });
        }
        self.format.write(&turns)
    }
}

/// The user and assistant messages of a history; system and tool messages are kept apart.
fn entries(history: &History, tokenizer: &Tokenizer) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(history.message_count());
    for (session_index, session) in history.sessions.iter().enumerate() {
        for (message_index, message) in session.messages.iter().enumerate() {
            if matches!(message.role, Role::User | Role::Assistant) {
                entries.push(Entry {
                    at: MessageAt { session: session_index, message: message_index },
                    role: message.role,
                    content: tokenizer.encode_text(&message.content),
                    session_start: session.start(),
                });
            }
        }
    }
    entries
}

fn cumulative(logits: &HeadLogits) -> CumulativeLogits {
    CumulativeLogits {
        harassment: logits.harassment,
        delusion: logits.delusion,
        stance: logits.stance,
        imminent: logits.imminent,
        harassment_case: logits.harassment_case,
        delusion_case: logits.delusion_case,
    }
}

/// How much a message matters to the windows after it: its P(level ≥ 2), or its stance.
fn carried_weight(score: &MessageScore) -> f32 {
    let weight = at_least(&score.harassment, 2)
        .max(at_least(&score.delusion, 2))
        .max(score.imminent)
        .max(expected_stance(&score.stance).abs() / 2.0);
    if weight >= CARRIED_WEIGHT_MIN { weight } else { 0.0 }
}
