//! Reading a history through the words of a guard's verdict: one prompt a message.
//!
//! Windows are cut as for message heads; the prompt of a message holds its window's context and
//! everything of the window before it. Prompts of one window that judge one role begin alike, so
//! keys and values of what a prompt shares with the next one are kept, and those of the policy in
//! front of all conversations are computed once a history and role.
//!
//! A verdict is yes or no. With `p = P(unsafe) · P(category)` summed over a risk's categories, a user
//! message gets the levels `[1−p, 0, p, 0]` of that risk, and an assistant message the stance
//! accommodating with the sum of both risks' `p`: the lesser of the two stances that make things
//! worse, as the guard does not tell them apart. P(imminent) is 0: no category says it.

use std::collections::BTreeSet;

use super::{GoOn, Reading, ReadingNotes, ScoreError, ScoredMessage};
use crate::arc::MessageAt;
use crate::engine::{Backend, EngineError, KvCache, Model, Read, Sequence};
use crate::guard::categories::Risk;
use crate::guard::llama_guard::{GuardMessage, GuardPrompt, LlamaGuard};
use crate::guard::message_heads::gap_note;
use crate::guard::verdict::{Extended, MASS_MIN_DEFAULT, NextToken, Verdict, VerdictStrings};
use crate::guard::{GuardError, Tokenize, neutralise};
use crate::scoring::MessageScore;
use crate::transcript::{History, Role};
use crate::window::{Item, Piece, Window, WindowSpec, plan};

/// Categories of at least this probability are named in the output.
const CATEGORY_NAMED_MIN: f64 = 0.25;
/// Tokens kept free in every window for what joint tokenising may add at the edges of messages.
const SLACK_TOKENS: usize = 32;
/// Stands in front of a context message that was shortened to its end.
const SHORTENED: &str = "[earlier part left out]";

/// Reads histories with a guard's verdicts.
pub struct VerdictReader {
    guard: LlamaGuard,
    strings: VerdictStrings,
    /// For every code of the guard, the risk it feeds.
    risks: Vec<Option<Risk>>,
}

impl VerdictReader {
    /// `mass_min` is the least probability of `safe` and `unsafe` together that is believed;
    /// `None` takes [`MASS_MIN_DEFAULT`].
    ///
    /// # Errors
    /// When the tokenizer has no tokens for the verdicts.
    pub fn new(guard: LlamaGuard, tokenizer: &dyn Tokenize, mass_min: Option<f32>) -> Result<Self, GuardError> {
        let strings = VerdictStrings::new(guard.codes(), tokenizer, mass_min.unwrap_or(MASS_MIN_DEFAULT))?;
        let risk = |code: &String| guard.custom_categories().iter().find(|category| category.id == *code)?.risk;
        let risks = guard.codes().iter().map(risk).collect();
        Ok(Self { guard, strings, risks })
    }

    pub fn guard(&self) -> &LlamaGuard {
        &self.guard
    }

    pub(super) fn read(
        &self,
        model: &Model,
        spec: &WindowSpec,
        history: &History,
        go_on: GoOn,
    ) -> Result<Reading, ScoreError> {
        self.read_with(&Engine(model.backend()), &model.tokenizer, spec, history, go_on)
    }

    /// Reads a history with any model of the next token.
    fn read_with<N: NextToken>(
        &self,
        model: &N,
        tokenizer: &dyn Tokenize,
        spec: &WindowSpec,
        history: &History,
        go_on: GoOn,
    ) -> Result<Reading, ScoreError>
    where
        ScoreError: From<N::Error>,
    {
        let entries = entries(history, tokenizer);
        let mut reader = HistoryReader::new(self, model, tokenizer, &entries)?;
        let spec = WindowSpec {
            carried_tokens_max: 0,
            overhead_tokens: reader.shared.iter().map(|shared| shared.base.len()).max().unwrap_or(0)
                + reader.closing_tokens
                + SLACK_TOKENS,
            ..*spec
        };
        let plan = plan(&reader.items(), &spec)?;
        reader.notes = ReadingNotes {
            windows: plan.windows.len(),
            split_messages: plan.split_messages,
            shortened_contexts: plan.shortened_contexts,
            kept_apart: history.message_count() - entries.len(),
            neutralised_marks: entries.iter().map(|entry| entry.marks).sum(),
            ..ReadingNotes::default()
        };
        let mut judged: Vec<Judged> = entries.iter().map(|_| Judged::default()).collect();
        let mut done = 0;
        for window in &plan.windows {
            for (item, answer) in reader.window(window, spec.tokens_max)? {
                judged[item].take(answer.map(|verdict| self.score(entries[item].role, &verdict)));
                done = item + 1;
            }
            if !go_on(done) {
                return Err(ScoreError::Stopped);
            }
        }
        let mut notes = reader.notes;
        notes.refused = judged.iter().filter(|judged| judged.refused).count();
        notes.unjudged = judged.iter().filter(|judged| judged.score.is_none()).count();
        let messages = entries.iter().zip(judged).map(|(entry, judged)| ScoredMessage {
            at: entry.at,
            role: entry.role,
            score: judged.score.unwrap_or(MessageScore::NOTHING),
            categories: judged.categories.iter().map(|&code| self.guard.codes()[code].clone()).collect(),
        });
        Ok((messages.collect(), notes))
    }

    /// The score of a verdict, and the codes it names.
    fn score(&self, role: Role, verdict: &Verdict) -> (MessageScore, BTreeSet<usize>) {
        let named = verdict.categories.iter().enumerate();
        let named = named.filter(|(_, p)| verdict.p_unsafe * **p >= CATEGORY_NAMED_MIN).map(|(code, _)| code).collect();
        let risk = |wanted: Risk| -> f64 {
            let of = self.risks.iter().zip(&verdict.categories).filter(|(risk, _)| **risk == Some(wanted));
            verdict.p_unsafe * of.map(|(_, p)| p).sum::<f64>()
        };
        let (harassment, delusion) = (risk(Risk::Harassment), risk(Risk::Delusion));
        let levels = |p: f64| [1.0 - p as f32, 0.0, p as f32, 0.0];
        let score = match role {
            Role::User => {
                let (harassment, delusion) = (levels(harassment), levels(delusion));
                MessageScore { harassment, delusion, ..MessageScore::NOTHING }
            }
            _ => {
                let p = (harassment + delusion).min(1.0) as f32;
                MessageScore { stance: [0.0, 1.0 - p, p, 0.0], ..MessageScore::NOTHING }
            }
        };
        (score, named)
    }
}

/// Items of a window, in order, and what the guard said of them.
type Answers = Vec<(usize, Result<Verdict, GuardError>)>;

/// What came of a message, over its parts.
#[derive(Default)]
struct Judged {
    score: Option<MessageScore>,
    categories: BTreeSet<usize>,
    refused: bool,
}

impl Judged {
    fn take(&mut self, answer: Result<(MessageScore, BTreeSet<usize>), GuardError>) {
        match answer {
            Ok((score, categories)) => {
                self.score = Some(self.score.map_or(score, |before| before.pooled(score)));
                self.categories.extend(categories);
            }
            Err(_) => self.refused = true,
        }
    }
}

/// The engine as a model of the next token.
struct Engine<'a>(&'a dyn Backend);

impl NextToken for Engine<'_> {
    type Prefix = KvCache;
    type Error = EngineError;

    fn empty(&self) -> KvCache {
        KvCache::default()
    }

    fn extend(&self, from: &KvCache, tokens: &[u32], rows: usize) -> Result<Extended<KvCache>, EngineError> {
        let positions: Vec<usize> = (tokens.len() - rows.min(tokens.len())..tokens.len()).collect();
        let sequence = Sequence { prefix: Some(from), tokens, read: Read::Logits(&positions) };
        let output = self.0.forward(&[sequence])?.pop();
        output
            .map(|output| Extended { prefix: output.cache, rows: output.rows })
            .ok_or(EngineError::Position { position: 0, tokens: 0 })
    }
}

/// A message to judge, with what its windows need.
struct Entry {
    at: MessageAt,
    role: Role,
    /// The message without marks of structure: it may be cut where one stood.
    text: String,
    /// How many marks were broken.
    marks: usize,
    tokens: usize,
    /// In front of the first message of a session.
    note: Option<String>,
}

fn entries(history: &History, tokenizer: &dyn Tokenize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(history.message_count());
    for (session_index, session) in history.sessions.iter().enumerate() {
        let mut first = true;
        for (message_index, message) in session.messages.iter().enumerate() {
            if !matches!(message.role, Role::User | Role::Assistant) {
                continue;
            }
            let elapsed = || {
                let before = history.sessions[entries.last()?.at.session].start()?;
                Some(session.start()?.duration_since(before).as_secs())
            };
            // Nothing stands before the history's first session.
            let note = (first && !entries.is_empty()).then(|| format!("[{}]", gap_note(elapsed())));
            first = false;
            let (text, marks) = neutralise(&message.content);
            entries.push(Entry {
                at: MessageAt { session: session_index, message: message_index },
                role: message.role,
                tokens: tokenizer.encode_text(&text).len(),
                text,
                marks,
                note,
            });
        }
    }
    entries
}

/// Keys and values that prompts about one role begin with.
struct Shared<P> {
    /// The policy: what all of them begin with.
    base: Vec<u32>,
    base_prefix: Option<P>,
    /// What the last prompt shared with the one after it.
    last: Option<(Vec<u32>, P)>,
}

/// One history being read.
struct HistoryReader<'a, N: NextToken> {
    reader: &'a VerdictReader,
    model: &'a N,
    tokenizer: &'a dyn Tokenize,
    entries: &'a [Entry],
    /// The last entry that was cut, and where its tokens begin.
    cut: Option<(usize, Option<Vec<usize>>)>,
    /// Of prompts about the user, and about the assistant.
    shared: [Shared<N::Prefix>; 2],
    /// Tokens a prompt has after its conversation.
    closing_tokens: usize,
    notes: ReadingNotes,
}

impl<'a, N: NextToken> HistoryReader<'a, N>
where
    ScoreError: From<N::Error>,
{
    fn new(
        reader: &'a VerdictReader,
        model: &'a N,
        tokenizer: &'a dyn Tokenize,
        entries: &'a [Entry],
    ) -> Result<Self, ScoreError> {
        let message =
            |role: Role, text: &str| GuardMessage { role, note: None, content: text.to_owned(), continues: false };
        let mut closing_tokens = 0;
        let mut base = |roles: &[Role]| -> Result<Shared<N::Prefix>, ScoreError> {
            let write = |text: &str| {
                let messages: Vec<GuardMessage> = roles.iter().map(|&role| message(role, text)).collect();
                reader.guard.prompt(&messages, tokenizer)
            };
            // Two conversations that differ from their first letter on.
            let (one, other) = (write("a")?.tokens, write("0")?.tokens);
            let shared = common_tokens(&one, &other);
            closing_tokens = closing_tokens.max(one.len() - shared);
            Ok(Shared { base: one[..shared].to_vec(), base_prefix: None, last: None })
        };
        let shared = [base(&[Role::User])?, base(&[Role::User, Role::Assistant])?];
        let notes = ReadingNotes::default();
        Ok(Self { reader, model, tokenizer, entries, cut: None, shared, closing_tokens, notes })
    }

    fn items(&self) -> Vec<Item> {
        let around = self.tokenizer.encode_text("Agent: ").len() + self.tokenizer.encode_text("\n\n").len() + 2;
        let note = |note: &String| self.tokenizer.encode_text(&format!("{note}\n")).len() + 1;
        let item = |entry: &Entry| Item {
            content_tokens: entry.tokens,
            wrap_tokens: around,
            gap_tokens: entry.note.as_ref().map_or(0, note),
        };
        self.entries.iter().map(item).collect()
    }

    /// Judges a window's fresh pieces, in order.
    fn window(&mut self, window: &Window, tokens_max: usize) -> Result<Answers, ScoreError> {
        let pieces: Vec<&Piece> = window.context.iter().chain(&window.fresh).collect();
        let messages: Vec<GuardMessage> = (0..pieces.len()).map(|at| self.message(&pieces, at)).collect();
        let mut prompts = Vec::with_capacity(window.fresh.len());
        for end in window.context.len() + 1..=messages.len() {
            prompts.push(self.fitting(&messages[..end], tokens_max)?);
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for (at, piece) in window.fresh.iter().enumerate() {
            let role = self.entries[piece.item].role;
            let next = (at + 1..prompts.len()).find(|&next| self.entries[window.fresh[next].item].role == role);
            let keep = next.map_or(0, |next| common_tokens(&prompts[at].tokens, &prompts[next].tokens));
            let end = self.prefill(usize::from(role == Role::Assistant), &prompts[at].tokens, keep)?;
            answers.push((piece.item, self.reader.strings.read(self.model, end)?));
        }
        Ok(answers)
    }

    /// A piece as a message of a prompt.
    fn message(&mut self, pieces: &[&Piece], at: usize) -> GuardMessage {
        let piece = pieces[at];
        let entry = &self.entries[piece.item];
        let continues =
            at > 0 && pieces[at - 1].item == piece.item && pieces[at - 1].content.end == piece.content.start;
        let (start, end) = (self.cut(piece.item, piece.content.start), self.cut(piece.item, piece.content.end));
        let shortened = (start > 0 && !continues).then(|| SHORTENED.to_owned());
        let note = if piece.content.start == 0 { entry.note.clone() } else { shortened };
        GuardMessage { role: entry.role, note, content: entry.text[start..end].to_owned(), continues }
    }

    /// The byte at which an entry is cut so that about `tokens` tokens stand before: 0 and all tokens are its ends.
    fn cut(&mut self, item: usize, tokens: usize) -> usize {
        let entry = &self.entries[item];
        if tokens == 0 || tokens >= entry.tokens {
            return if tokens == 0 { 0 } else { entry.text.len() };
        }
        if self.cut.as_ref().is_none_or(|(of, _)| *of != item) {
            self.cut = Some((item, self.tokenizer.token_starts(&entry.text)));
        }
        let starts = self.cut.as_ref().and_then(|(_, starts)| starts.as_ref());
        match starts.and_then(|starts| starts.get(tokens)) {
            Some(&start) => entry.text.floor_char_boundary(start),
            None => searched_cut(&entry.text, tokens, self.tokenizer),
        }
    }

    /// The prompt of these messages, without the oldest of them if it would be too long.
    fn fitting(&mut self, messages: &[GuardMessage], tokens_max: usize) -> Result<GuardPrompt, ScoreError> {
        let mut start = 0;
        let prompt = loop {
            let prompt = self.reader.guard.prompt(&messages[start..], self.tokenizer)?;
            if prompt.tokens.len() <= tokens_max || start + 1 == messages.len() {
                break prompt;
            }
            start += 1;
        };
        self.notes.shortened_contexts += start;
        // Of the message judged here: the others are counted in their own prompts.
        if let [.., before, last] = &messages[start..] {
            self.notes.merged_messages += usize::from(before.role == last.role && !last.continues);
        }
        // Beside those of the whole message: `User:` may begin a line only now.
        self.notes.neutralised_marks += messages.last().map_or(0, |last| neutralise(&last.content).1);
        Ok(prompt)
    }

    /// Runs a prompt, from the longest prefix that is kept; keeps its first `keep` tokens.
    fn prefill(&mut self, role: usize, tokens: &[u32], keep: usize) -> Result<Extended<N::Prefix>, ScoreError> {
        let shared = &mut self.shared[role];
        if shared.base_prefix.is_none() && tokens.starts_with(&shared.base) && !shared.base.is_empty() {
            let base = self.model.extend(&self.model.empty(), &shared.base, 0)?;
            self.notes.tokens += shared.base.len();
            shared.base_prefix = Some(base.prefix);
        }
        // At least the last token is read here, for its logits.
        let usable = |length: usize, known: &[u32]| length < tokens.len() && tokens.starts_with(known);
        let (mut done, mut prefix) = match (&shared.last, &shared.base_prefix) {
            (Some((known, prefix)), _) if usable(known.len(), known) => (known.len(), prefix.clone()),
            (_, Some(prefix)) if usable(shared.base.len(), &shared.base) => (shared.base.len(), prefix.clone()),
            _ => (0, self.model.empty()),
        };
        let keep = keep.min(tokens.len() - 1);
        if keep > done {
            prefix = self.model.extend(&prefix, &tokens[done..keep], 0)?.prefix;
            self.notes.tokens += keep - done;
            done = keep;
            shared.last = Some((tokens[..keep].to_vec(), prefix.clone()));
        }
        self.notes.tokens += tokens.len() - done;
        Ok(self.model.extend(&prefix, &tokens[done..], 1)?)
    }
}

/// How many tokens two prompts begin with alike.
fn common_tokens(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The same for a tokenizer that does not tell where its tokens begin: by trying.
fn searched_cut(text: &str, tokens: usize, tokenizer: &dyn Tokenize) -> usize {
    let (mut fits, mut over) = (0, text.len());
    loop {
        // The character boundary in the middle, or the first one after `fits`.
        let middle = text.floor_char_boundary(fits + (over - fits) / 2);
        let middle = if middle > fits { middle } else { text.ceil_char_boundary(fits + 1) };
        if middle >= over {
            break;
        }
        if tokenizer.encode_text(&text[..middle]).len() <= tokens { fits = middle } else { over = middle }
    }
    fits
}

#[cfg(test)]
mod tests;
