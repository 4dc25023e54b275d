//! Reading a history through the words of a guard's verdict: one prompt a message.
//!
//! Windows are cut as for message heads; the prompt of a message holds its window's context and
//! everything of the window before it. Prompts that judge one role begin alike, and so do all where a template names
//! no role before the conversation: keys and values of the last one about each role are kept, and the next goes on from the
//! tokens that it begins with alike with either. What all prompts about a role begin with, the policy, is computed once a model and
//! kept as long as the reader is (some 350 tokens for each of two roles); it is not among the tokens that [`ReadingNotes`] counts of
//! a history.
//!
//! Most often a message is one pass of the model, its verdict's words included ([`crate::guard::verdict`]). The kernels of the
//! CPU give every row as if it were read alone and afresh, to the bit; through candle on the CPU logits of the tests' models differ
//! by at most 1e-5, which moves a probability by less than 1e-4. What candle's bfloat16 on a GPU moves was not measured.
//!
//! A verdict is yes or no. With `p = P(unsafe) · P(category)` summed over a risk's categories, a user
//! message gets the levels `[1−p, 0, p, 0]` of that risk, and an assistant message the stance
//! accommodating with the sum of both risks' `p`: the lesser of the two stances that make things
//! worse, as the guard does not tell them apart. P(imminent) is 0: no category says it.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::{GoOn, Reading, ReadingNotes, ScoreError, ScoredMessage};
use crate::arc::MessageAt;
use crate::engine::{Backend, EngineError, KvCache, Model, Read, Sequence};
use crate::guard::categories::Risk;
use crate::guard::llama_guard::{GuardMessage, GuardPrompt, LlamaGuard};
use crate::guard::message_heads::gap_note;
use crate::guard::verdict::{
    Asked, Extended, MASS_MIN_DEFAULT, NextToken, Prompt, Verdict, VerdictStrings, common_tokens,
};
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
    outline: Outline,
    /// Of the one model that this reader is used with: another would refuse them.
    policies: Policies<KvCache>,
}

/// What prompts have around their conversations.
struct Outline {
    /// What all prompts about the user, and about the assistant, begin with: the policy.
    policies: [Vec<u32>; 2],
    /// Tokens a prompt has after its conversation.
    closing_tokens: usize,
    /// White space that the guard may be expected to write before its first verdict.
    lead: &'static str,
}

/// Keys and values of the policy in prompts about the user, and about the assistant.
type Policies<P> = [OnceLock<P>; 2];

impl Outline {
    fn new(guard: &LlamaGuard, tokenizer: &dyn Tokenize) -> Result<Self, GuardError> {
        let mut outline = Self { policies: <[Vec<u32>; 2]>::default(), closing_tokens: 0, lead: "" };
        for (policy, roles) in outline.policies.iter_mut().zip([&[Role::User][..], &[Role::User, Role::Assistant]]) {
            let write = |text: &str| {
                let message =
                    |&role: &Role| GuardMessage { role, note: None, content: text.to_owned(), continues: false };
                guard.prompt(&roles.iter().map(message).collect::<Vec<_>>(), tokenizer)
            };
            // Two conversations that differ from their first letter on.
            let (mut one, other) = (write("a")?.tokens, write("0")?.tokens);
            let shared = common_tokens(&one, &other);
            outline.closing_tokens = outline.closing_tokens.max(one.len() - shared);
            // After a template that ends with a control token, a guard begins its turn with line ends.
            let turn_begins = |last: &u32| tokenizer.control_tokens().values().any(|control| control == last);
            outline.lead = if one.last().is_some_and(turn_begins) { "\n\n" } else { "" };
            one.truncate(shared);
            *policy = one;
        }
        Ok(outline)
    }
}

impl VerdictReader {
    /// `mass_min` is the least probability of `safe` and `unsafe` together that is believed;
    /// `None` takes [`MASS_MIN_DEFAULT`].
    ///
    /// # Errors
    /// When the tokenizer has no tokens for the verdicts, or the guard's template fails.
    pub fn new(guard: LlamaGuard, tokenizer: &dyn Tokenize, mass_min: Option<f32>) -> Result<Self, GuardError> {
        let strings = VerdictStrings::new(guard.codes(), tokenizer, mass_min.unwrap_or(MASS_MIN_DEFAULT))?;
        let risk = |code: &String| guard.custom_categories().iter().find(|category| category.id == *code)?.risk;
        let risks = guard.codes().iter().map(risk).collect();
        let outline = Outline::new(&guard, tokenizer)?;
        Ok(Self { guard, strings, risks, outline, policies: Policies::default() })
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
        let means = Means { model: &Engine(model.backend()), tokenizer: &model.tokenizer, policies: &self.policies };
        self.read_with(&means, spec, history, go_on)
    }

    /// Reads a history with any model of the next token.
    fn read_with<N: NextToken>(
        &self,
        means: &Means<N>,
        spec: &WindowSpec,
        history: &History,
        go_on: GoOn,
    ) -> Result<Reading, ScoreError>
    where
        ScoreError: From<N::Error>,
    {
        let entries = entries(history, means.tokenizer);
        let mut reader = HistoryReader::new(self, means, &entries);
        let policy_tokens = self.outline.policies.iter().map(Vec::len).max().unwrap_or(0);
        let spec = WindowSpec {
            carried_tokens_max: 0,
            overhead_tokens: policy_tokens + self.outline.closing_tokens + SLACK_TOKENS,
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
        let extended = self.extend_each(&[Asked { from, tokens, rows }])?.pop();
        extended.ok_or(EngineError::Position { position: 0, tokens: 0 })
    }

    fn extend_each(&self, asked: &[Asked<KvCache>]) -> Result<Vec<Extended<KvCache>>, EngineError> {
        let last = |one: &Asked<KvCache>| (one.tokens.len().saturating_sub(one.rows)..one.tokens.len()).collect();
        let positions: Vec<Vec<usize>> = asked.iter().map(last).collect();
        let asked = asked.iter().zip(&positions);
        let sequences: Vec<Sequence> = asked
            .map(|(one, at)| Sequence { prefix: Some(one.from), tokens: one.tokens, read: Read::Logits(at) })
            .collect();
        let outputs = self.0.forward(&sequences)?.into_iter();
        Ok(outputs.map(|output| Extended { prefix: output.cache, rows: output.rows }).collect())
    }

    fn back(&self, prefix: &KvCache, tokens: usize) -> Result<KvCache, EngineError> {
        let left = prefix.tokens().saturating_sub(tokens);
        let cut = prefix.first(left);
        // What cannot be cut comes back empty, and to go on from that would be to judge another prompt.
        if cut.tokens() == left { Ok(cut) } else { Err(EngineError::Position { position: left, tokens: cut.tokens() }) }
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

/// What histories are read with.
struct Means<'a, N: NextToken> {
    model: &'a N,
    tokenizer: &'a dyn Tokenize,
    /// As far as this model has computed them.
    policies: &'a Policies<N::Prefix>,
}

/// Tokens that were read, and the prefix that they are.
type Known<P> = (Vec<u32>, P);

/// One history being read.
struct HistoryReader<'a, N: NextToken> {
    reader: &'a VerdictReader,
    means: &'a Means<'a, N>,
    entries: &'a [Entry],
    /// The last entry that was cut, and where its tokens begin.
    cut: Option<(usize, Option<Vec<usize>>)>,
    /// The last prompt about the user, and about the assistant.
    last: [Option<Known<N::Prefix>>; 2],
    /// The lead of the last verdict.
    lead: usize,
    notes: ReadingNotes,
}

impl<'a, N: NextToken> HistoryReader<'a, N>
where
    ScoreError: From<N::Error>,
{
    fn new(reader: &'a VerdictReader, means: &'a Means<'a, N>, entries: &'a [Entry]) -> Self {
        let lead = reader.strings.lead(reader.outline.lead);
        Self { reader, means, entries, cut: None, last: [None, None], lead, notes: ReadingNotes::default() }
    }

    fn items(&self) -> Vec<Item> {
        let around =
            self.means.tokenizer.encode_text("Agent: ").len() + self.means.tokenizer.encode_text("\n\n").len() + 2;
        let note = |note: &String| self.means.tokenizer.encode_text(&format!("{note}\n")).len() + 1;
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
        let mut answers = Vec::with_capacity(window.fresh.len());
        for (at, piece) in window.fresh.iter().enumerate() {
            let prompt = self.fitting(&messages[..=window.context.len() + at], tokens_max)?;
            answers.push((piece.item, self.ask(self.entries[piece.item].role, prompt.tokens)?));
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
            self.cut = Some((item, self.means.tokenizer.token_starts(&entry.text)));
        }
        let starts = self.cut.as_ref().and_then(|(_, starts)| starts.as_ref());
        match starts.and_then(|starts| starts.get(tokens)) {
            Some(&start) => entry.text.floor_char_boundary(start),
            None => searched_cut(&entry.text, tokens, self.means.tokenizer),
        }
    }

    /// The prompt of these messages, without the oldest of them if it would be too long.
    fn fitting(&mut self, messages: &[GuardMessage], tokens_max: usize) -> Result<GuardPrompt, ScoreError> {
        let mut start = 0;
        let prompt = loop {
            let prompt = self.reader.guard.prompt(&messages[start..], self.means.tokenizer)?;
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

    /// The verdict after a prompt that judges this role, which goes on from what it begins with alike with a prompt before.
    fn ask(&mut self, role: Role, tokens: Vec<u32>) -> Result<Result<Verdict, GuardError>, ScoreError> {
        let (model, role) = (self.means.model, usize::from(role == Role::Assistant));
        let (known, prefix) = self.known(role, &tokens)?;
        // At least the last token is read here, for its logits.
        let shared = common_tokens(&known, &tokens).min(tokens.len().saturating_sub(1));
        let from = model.back(&prefix, known.len() - shared)?;
        self.notes.tokens += tokens.len() - shared;
        let prompt = Prompt { from: &from, tokens: &tokens[shared..], lead: self.lead };
        let answer = self.reader.strings.read(model, &prompt)?;
        self.lead = answer.lead;
        self.last[role] = Some((tokens, answer.prefix));
        Ok(answer.verdict)
    }

    /// What of that prompt was read before: the last prompt that begins most like it, of either role, for some templates name none
    /// before the conversation; or the policy.
    fn known(&self, role: usize, tokens: &[u32]) -> Result<Known<N::Prefix>, ScoreError> {
        let begun = |last: &&Known<N::Prefix>| common_tokens(&last.0, tokens);
        match self.last.iter().flatten().max_by_key(begun) {
            Some(last) if begun(&last) >= self.reader.outline.policies[role].len() => Ok(last.clone()),
            _ => self.policy(role, tokens),
        }
    }

    /// The policy that a prompt begins with, computed for the first history that asks; nothing where it begins with another.
    fn policy(&self, role: usize, tokens: &[u32]) -> Result<Known<N::Prefix>, ScoreError> {
        let (model, policy) = (self.means.model, &self.reader.outline.policies[role]);
        if policy.is_empty() || !tokens.starts_with(policy) {
            return Ok((Vec::new(), model.empty()));
        }
        let kept = &self.means.policies[role];
        let prefix = match kept.get() {
            Some(prefix) => prefix.clone(),
            None => {
                let read = model.extend(&model.empty(), policy, 0)?.prefix;
                // Of threads that come here at once, each has computed the same.
                kept.get_or_init(|| read).clone()
            }
        };
        Ok((policy.clone(), prefix))
    }
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
