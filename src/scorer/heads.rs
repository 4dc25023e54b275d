//! Reading a history through message heads: a message a time, or one prefill a window.
//!
//! [`HeadStream`] is the history as far as it was said. What is pushed is written into the open window and computed
//! at the next [`HeadStream::flush`]: after every message where an answer is waited for, or once a window where a whole history
//! is read; in pieces where others wait meanwhile. Attention is causal and the plan of a history does not change as it grows, so both give the same scores.

use std::ops::Range;

use jiff::Timestamp;

use super::carried::carried_weight;
use super::{GoOn, Reading, ReadingNotes, ScoreError, ScoredMessage};
use crate::arc::MessageAt;
use crate::engine::{GoesOn, HeadLogits, KvCache, Model, Tokenizer};
use crate::guard::message_heads::{Format, NOTE_EARLIER, NOTE_LATER, Prompt, Turn, gap_note};
use crate::guard::verdict::common_tokens;
use crate::guard::{GuardError, Tokenize};
use crate::scoring::{CumulativeLogits, MessageScore};
use crate::transcript::{History, Role};
use crate::window::{Item, Piece, Planner, Step, Window, WindowError, WindowSpec, choose_carried};

/// What an open window is computed in where others wait: a quarter of a second on two cores. The kernels come to the same bits in however
/// many pieces.
pub(super) const PIECE_TOKENS: usize = 512;

/// A message on its way into a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub at: MessageAt,
    pub role: Role,
    pub content: &'a str,
    /// Of the message's session.
    pub session_start: Option<Timestamp>,
}

/// A message as it was taken in.
#[derive(Debug, Clone)]
struct Entry {
    at: MessageAt,
    role: Role,
    /// Its text as token ids.
    content: Vec<u32>,
    session_start: Option<Timestamp>,
    /// `None` before it was computed.
    score: Option<MessageScore>,
}

/// What stands around messages, by a model's tokenizer.
pub(super) struct HeadReader {
    format: Format,
    note_earlier: Vec<u32>,
    note_later: Vec<u32>,
}

/// The window that fresh messages are written into.
#[derive(Clone, Default)]
struct Open {
    /// The first item whose text stands in the window itself.
    first_item: usize,
    prompt: Prompt,
    /// The item of the last piece written.
    last_item: Option<usize>,
    /// Items of fresh pieces that are written and not yet computed: the prompt's last messages.
    waiting: Vec<usize>,
    /// Logits of the first of them, as far as they are computed.
    heard: Vec<HeadLogits>,
    /// Keys and values of the prompt's beginning.
    cache: KvCache,
}

/// A part of an open window that is to be computed, and where in it heads are read.
struct Due {
    tokens: Range<usize>,
    read: Vec<usize>,
}

/// What a draft had computed, up to the end of its last message's text: what comes next often begins with it, the same text as a turn or a
/// longer reply.
#[derive(Default)]
struct Draft {
    tokens: Vec<u32>,
    cache: KvCache,
    /// Of its pieces before the last.
    logits: Vec<HeadLogits>,
}

/// A history as far as it was said.
pub(super) struct HeadStream {
    planner: Planner,
    entries: Vec<Entry>,
    /// How much each entry matters to later windows.
    weights: Vec<f32>,
    open: Open,
    /// As many tokens of the open window are computed in one go.
    piece_tokens: usize,
    pub windows: usize,
    /// Tokens computed.
    pub tokens: usize,
    /// While a mark may be gone back to, no text is let go.
    marked: bool,
    draft: Draft,
}

/// A stream as it once was.
pub(super) struct Mark {
    planner: Planner,
    open: Open,
    entries: usize,
    windows: usize,
}

impl HeadReader {
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, GuardError> {
        Ok(Self {
            format: Format::new(tokenizer)?,
            note_earlier: tokenizer.encode_text(NOTE_EARLIER),
            note_later: tokenizer.encode_text(NOTE_LATER),
        })
    }

    /// Reads a whole history, in prefills of so many tokens at most; between two of them `go_on` is asked.
    pub fn read(
        &self,
        model: &Model,
        (spec, piece_tokens): (&WindowSpec, usize),
        history: &History,
        go_on: GoOn,
    ) -> Result<Reading, ScoreError> {
        let mut stream = HeadStream::new(*spec, piece_tokens)?;
        for said in said(history) {
            stream.push(self, model, said, go_on)?;
        }
        stream.flush(model, go_on)?;
        go_on(stream.entries.len());
        let notes = ReadingNotes { kept_apart: history.message_count() - stream.entries.len(), ..stream.notes() };
        Ok((stream.messages().collect(), notes))
    }
}

/// The user and assistant messages of a history; system and tool messages are kept apart.
fn said(history: &History) -> impl Iterator<Item = Said<'_>> {
    history.sessions.iter().enumerate().flat_map(|(session, held)| {
        let session_start = held.start();
        let messages = held.messages.iter().enumerate();
        messages.filter(|(_, message)| matches!(message.role, Role::User | Role::Assistant)).map(
            move |(message, one)| Said {
                at: MessageAt { session, message },
                role: one.role,
                content: &one.content,
                session_start,
            },
        )
    })
}

impl HeadStream {
    /// Of which so many tokens are computed in one go.
    ///
    /// # Errors
    /// When the spec leaves no room.
    pub fn new(spec: WindowSpec, piece_tokens: usize) -> Result<Self, WindowError> {
        Ok(Self {
            planner: Planner::new(spec)?,
            entries: Vec::new(),
            weights: Vec::new(),
            open: Open::default(),
            piece_tokens,
            windows: 0,
            tokens: 0,
            marked: false,
            draft: Draft::default(),
        })
    }

    /// The stream as it is now, to go back to.
    pub fn mark(&mut self) -> Mark {
        self.marked = true;
        let (planner, open) = (self.planner.clone(), self.open.clone());
        Mark { planner, open, entries: self.entries.len(), windows: self.windows }
    }

    /// Forgets everything since the mark but the count of tokens computed, and keys and values that what comes next may go on from.
    pub fn go_back(&mut self, mark: Mark) {
        self.entries.truncate(mark.entries);
        self.weights.truncate(mark.entries);
        (self.planner, self.open, self.windows) = (mark.planner, mark.open, mark.windows);
        self.marked = false;
    }

    /// Takes in a message whose score is known. It is computed only once what comes after it needs its keys and values.
    pub fn recall(
        &mut self,
        reader: &HeadReader,
        model: &Model,
        said: Said,
        score: MessageScore,
    ) -> Result<(), ScoreError> {
        let index = self.enter(model, said);
        for step in self.plan(reader, model, index, said.role) {
            match step {
                Step::Opens(window) => self.open(reader, &window, &model.tokenizer),
                Step::Goes(piece) => self.write(reader, &piece, &model.tokenizer),
            }
        }
        self.entries[index].score = Some(score);
        self.weights[index] = carried_weight(&score);
        Ok(())
    }

    /// Takes in the next message. Where a window is full, what waits in it is computed; after every piece of it `go_on` is asked, by the
    /// messages that are read, whether to.
    ///
    /// # Errors
    /// When the engine fails, or not to: the history is then to be read anew, or gone back to a mark.
    pub fn push(&mut self, reader: &HeadReader, model: &Model, said: Said, go_on: GoOn) -> Result<(), ScoreError> {
        let index = self.enter(model, said);
        for step in self.plan(reader, model, index, said.role) {
            match step {
                Step::Opens(window) => {
                    self.flush(model, go_on)?;
                    if !go_on(index) {
                        return Err(ScoreError::Stopped);
                    }
                    self.open(reader, &window, &model.tokenizer);
                }
                Step::Goes(piece) => self.write(reader, &piece, &model.tokenizer),
            }
            self.open.waiting.push(index);
        }
        Ok(())
    }

    fn enter(&mut self, model: &Model, said: Said) -> usize {
        self.entries.push(Entry {
            at: said.at,
            role: said.role,
            content: model.tokenizer.encode_text(said.content),
            session_start: said.session_start,
            score: None,
        });
        self.weights.push(0.0);
        self.entries.len() - 1
    }

    /// What becomes of the last message: windows that open, and its pieces.
    fn plan(&mut self, reader: &HeadReader, model: &Model, index: usize, role: Role) -> Vec<Step> {
        // The note of the longest gap is counted even where the window's first message has a shorter one.
        let gap_tokens = match self.gap(index, 0, &model.tokenizer) {
            Some(note) => note.len() + reader.format.wrap_tokens(Role::System),
            None => 0,
        };
        let content_tokens = self.entries[index].content.len();
        self.planner.push(Item { content_tokens, wrap_tokens: reader.format.wrap_tokens(role), gap_tokens })
    }

    /// Computes what was written and waits; between two pieces of it `go_on` is asked.
    ///
    /// # Errors
    /// When the engine fails, or not to go on.
    pub fn flush(&mut self, model: &Model, go_on: GoOn) -> Result<(), ScoreError> {
        while self.waits() {
            compute(model, &mut [self])?;
            if self.waits() && !go_on(self.read_count()) {
                return Err(ScoreError::Stopped);
            }
        }
        Ok(())
    }

    /// Whether anything of the open window is to be computed.
    pub fn is_due(&self) -> bool {
        self.waits() || self.cold_tokens() > 0
    }

    /// Messages that are computed.
    pub fn read_count(&self) -> usize {
        self.open.waiting.first().copied().unwrap_or(self.entries.len())
    }

    /// Whether messages wait to be computed.
    pub fn waits(&self) -> bool {
        !self.open.waiting.is_empty()
    }

    /// Goes on from what a draft had computed, where the open window begins with the same tokens.
    fn take_up_draft(&mut self) {
        if !self.waits() {
            return;
        }
        let Open { prompt, waiting, heard, cache, .. } = &mut self.open;
        let draft = std::mem::take(&mut self.draft);
        let waits = &prompt.ends[prompt.ends.len() - waiting.len()..];
        let read = waits.iter().filter(|end| **end < draft.tokens.len()).count();
        let longer = draft.tokens.len() > cache.tokens() && prompt.tokens.starts_with(&draft.tokens);
        if longer && heard.is_empty() && read == draft.logits.len() {
            (*cache, *heard) = (draft.cache, draft.logits);
        }
    }

    /// What of the open window is to be computed next.
    fn due(&self) -> Option<Due> {
        let Open { prompt, waiting, cache, .. } = &self.open;
        let known = cache.tokens();
        let tokens = known..prompt.tokens.len().min(known.saturating_add(self.piece_tokens));
        let waits = &prompt.ends[prompt.ends.len() - waiting.len()..];
        let read = waits.iter().filter(|end| tokens.contains(end)).map(|end| end - known).collect();
        (!tokens.is_empty()).then_some(Due { tokens, read })
    }

    /// Keeps what was computed of a draft but for what stands after its text: a longer one goes on from before that.
    fn keep_draft(&mut self) {
        let Open { prompt, heard, cache, .. } = &self.open;
        let (Some(&text), Some((_, before)), true) = (prompt.ends.last(), heard.split_last(), self.marked) else {
            return;
        };
        let tokens = prompt.tokens[..text].to_vec();
        self.draft = Draft { tokens, cache: cache.first(text), logits: before.to_vec() };
    }

    /// The scores of messages that waited.
    fn settle(&mut self) {
        self.keep_draft();
        let Open { waiting, heard, .. } = &mut self.open;
        for (item, logits) in waiting.drain(..).zip(heard.drain(..)) {
            let entry = &mut self.entries[item];
            let score = MessageScore::from_logits(entry.role, &cumulative(&logits));
            let pooled = entry.score.map_or(score, |before| before.pooled(score));
            entry.score = Some(pooled);
            self.weights[item] = carried_weight(&pooled);
        }
    }

    /// Forgets keys and values: they are computed again when they are needed.
    pub fn forget_cache(&mut self) {
        self.open.cache = KvCache::default();
        self.draft = Draft::default();
    }

    /// Tokens of the open window whose keys and values are not held.
    pub fn cold_tokens(&self) -> usize {
        self.open.prompt.tokens.len() - self.open.cache.tokens()
    }

    /// Bytes of keys and values that are held.
    pub fn cached_bytes(&self) -> usize {
        let (open, draft) = (&self.open.cache, &self.draft.cache);
        if open.shares_with(draft) { open.bytes().max(draft.bytes()) } else { open.bytes() + draft.bytes() }
    }

    /// Every message with its score; of what waits for [`Self::flush`], nothing.
    pub fn messages(&self) -> impl Iterator<Item = ScoredMessage> {
        self.entries.iter().map(|entry| ScoredMessage {
            at: entry.at,
            role: entry.role,
            score: entry.score.unwrap_or(MessageScore::NOTHING),
            categories: Vec::new(),
        })
    }

    /// How many messages were taken in.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The place and the score of the n-th message taken in, once it was computed.
    pub fn message(&self, index: usize) -> Option<(MessageAt, MessageScore)> {
        let entry = self.entries.get(index)?;
        Some((entry.at, entry.score?))
    }

    pub fn notes(&self) -> ReadingNotes {
        ReadingNotes {
            windows: self.windows,
            tokens: self.tokens,
            split_messages: self.planner.split_messages,
            shortened_contexts: self.planner.shortened_contexts,
            ..ReadingNotes::default()
        }
    }

    /// The gap note in front of an entry, when it is the first of its session, or of the window.
    fn gap(&self, index: usize, window_first: usize, tokenizer: &Tokenizer) -> Option<Vec<u32>> {
        let entry = &self.entries[index];
        let before = index.checked_sub(1).map(|before| &self.entries[before]);
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

    /// Begins a window: what is carried from before it, its context, its first fresh piece.
    fn open(&mut self, reader: &HeadReader, window: &Window, tokenizer: &Tokenizer) {
        self.windows += 1;
        let first = window.first_item();
        let carried = choose_carried(self.planner.items(), &self.weights, first, window.carried_tokens_max);
        // What stands before the window and is no evidence is not written again.
        let before = self.entries[self.open.first_item..first].iter_mut().zip(&self.weights[self.open.first_item..]);
        for (entry, _) in before.filter(|(_, weight)| **weight == 0.0 && !self.marked) {
            entry.content = Vec::new();
        }
        let before = std::mem::replace(&mut self.open, Open { first_item: first, ..Open::default() });
        if first > 0 {
            // Written even when nothing is carried: it says that the history began before.
            let prompt = &mut self.open.prompt;
            reader.format.append(prompt, &Turn::Note(&reader.note_earlier));
            for entry in carried.iter().map(|&item| &self.entries[item]) {
                reader.format.append(prompt, &Turn::Message { role: entry.role, content: &entry.content });
            }
            reader.format.append(prompt, &Turn::Note(&reader.note_later));
        }
        window.context.iter().for_each(|piece| self.write(reader, piece, tokenizer));
        self.begin_as(&before);
        window.fresh.iter().for_each(|piece| self.write(reader, piece, tokenizer));
    }

    /// Takes over keys and values of what the window begins with as the one before it did, such as what is carried: the same tokens at the
    /// same places, and so the same to the bit. Behind the first that differs nothing is.
    fn begin_as(&mut self, before: &Open) {
        let alike = common_tokens(&self.open.prompt.tokens, &before.prompt.tokens);
        self.open.cache = before.cache.first(alike.min(before.cache.tokens()));
    }

    fn write(&mut self, reader: &HeadReader, piece: &Piece, tokenizer: &Tokenizer) {
        if self.open.last_item != Some(piece.item)
            && let Some(note) = self.gap(piece.item, self.open.first_item, tokenizer)
        {
            reader.format.append(&mut self.open.prompt, &Turn::Note(&note));
        }
        self.open.last_item = Some(piece.item);
        let entry = &self.entries[piece.item];
        let turn = Turn::Message { role: entry.role, content: &entry.content[piece.content.clone()] };
        reader.format.append(&mut self.open.prompt, &turn);
    }
}

/// Computes a piece of what was written into the open windows of several histories, side by side. After the last one what waits there has a
/// score, and of the rest keys and values are held. After an error it can be asked again.
///
/// # Errors
/// When the engine fails, for one of them or for all.
pub(super) fn compute(model: &Model, streams: &mut [&mut HeadStream]) -> Result<(), ScoreError> {
    streams.iter_mut().for_each(|stream| stream.take_up_draft());
    let dues: Vec<Option<Due>> = streams.iter().map(|stream| stream.due()).collect();
    let parts = streams.iter().zip(&dues).filter_map(|(stream, due)| {
        let (Open { prompt, cache, .. }, due) = (&stream.open, due.as_ref()?);
        let prefix = (cache.tokens() > 0).then_some(cache);
        Some(GoesOn { prefix, tokens: &prompt.tokens[due.tokens.clone()], positions: &due.read })
    });
    let parts: Vec<GoesOn> = parts.collect();
    let computed = if parts.is_empty() { Vec::new() } else { model.head_logits_after(&parts)? };
    let grown = streams.iter_mut().zip(&dues).filter_map(|(stream, due)| Some((stream, due.as_ref()?)));
    for ((stream, due), (logits, cache)) in grown.zip(computed) {
        stream.tokens += due.tokens.len();
        stream.open.heard.extend(logits);
        stream.open.cache = cache;
    }
    streams.iter_mut().filter(|stream| stream.cold_tokens() == 0).for_each(|stream| stream.settle());
    Ok(())
}

fn cumulative(logits: &HeadLogits) -> CumulativeLogits {
    CumulativeLogits {
        harassment: logits.harassment,
        delusion: logits.delusion,
        stance: logits.stance,
        imminent: logits.imminent,
        harassment_case: logits.harassment_case,
        delusion_case: logits.delusion_case,
        framed: logits.framed,
    }
}
