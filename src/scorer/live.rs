//! A history as it is being said: every message is judged when it comes, at the price of its own tokens.

use jiff::Timestamp;

use super::heads::{HeadReader, HeadStream, Mark, PIECE_TOKENS, Said, compute};
use super::{GoOn, Reader, ReadingNotes, ScoreError, ScoredMessage, Scorer, TargetScore, targets};
use crate::arc::{ArcKind, ArcState, Arcs, ArcsMark, MessageAt, Observation};
use crate::engine::EngineError;
use crate::scoring::MessageScore;
use crate::target::Toward;
use crate::transcript::{Message, Role};
use crate::verdict::{Facts, Named, Verdict};

/// One user's history on its way.
///
/// Sessions may arrive late: a message is judged in windows of what arrived before it, and counts where its session stands in time
/// ([`Arcs`]).
///
/// What it says of a message is what [`Scorer::score`] says of it in the whole history: the windows are the same, and
/// of each only what is new is computed, on the keys and values of what was: by the kernels of the CPU to the same bits, by candle but for
/// rounding.
pub struct Live<'a> {
    scorer: &'a Scorer,
    reader: &'a HeadReader,
    stream: HeadStream,
    arcs: Arcs,
    toward: Toward,
    /// The place of the next message, and when its session began; none has begun before the first.
    next: Option<(MessageAt, Option<Timestamp>)>,
}

/// What a message came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    pub message: ScoredMessage,
    /// Both arcs as they stand now: harassment, delusion.
    pub arcs: [ArcNow; 2],
    pub verdict: Verdict,
}

/// What becomes of messages that are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// They were said: the history goes on behind them.
    Said,
    /// They are considered, in a new session where that is asked, with the time at which it begins; afterwards nothing was said.
    Draft { new_session: Option<Option<Timestamp>> },
}

/// Messages of one of several histories.
pub struct Turn<'t, 'a> {
    pub live: &'t mut Live<'a>,
    pub messages: &'t [Message],
    pub hearing: Hearing,
}

/// A message that is written into its window and not judged yet: which it is, and when its session began.
struct Waiting<'t> {
    index: usize,
    message: &'t Message,
    session_start: Option<Timestamp>,
}

/// A history as it was before a draft.
struct Before {
    stream: Mark,
    arcs: ArcsMark,
    toward: Toward,
    next: Option<(MessageAt, Option<Timestamp>)>,
}

/// An arc as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArcNow {
    pub kind: ArcKind,
    /// 0 to 1, at its height so far, and at this message.
    pub score: f32,
    pub score_now: f32,
    pub onset: Option<MessageAt>,
}

impl ArcNow {
    pub fn of(arc: &ArcState) -> Self {
        Self { kind: arc.kind(), score: arc.score(), score_now: arc.score_now(), onset: arc.onset() }
    }
}

impl Scorer {
    /// A history of which nothing was said yet.
    ///
    /// # Errors
    /// For a guard whose verdict is read in words: it has no message heads.
    pub fn live(&self) -> Result<Live<'_>, ScoreError> {
        let Reader::Heads(reader) = &self.reader else {
            return Err(EngineError::Missing("throughline.heads".into()).into());
        };
        Ok(Live {
            scorer: self,
            reader,
            stream: HeadStream::new(self.spec, PIECE_TOKENS)?,
            arcs: Arcs::new(),
            toward: Toward::new(),
            next: None,
        })
    }

    /// Takes in the next messages of several histories of this scorer, computed side by side: what was heard of those of the user and the
    /// assistant, in each. Of every history it is what it would be of that history alone.
    ///
    /// # Errors
    /// For a history whose windows cannot be computed; if it was no draft, it is then to be read anew.
    pub fn hear(&self, turns: &mut [Turn]) -> Vec<Result<Vec<Heard>, ScoreError>> {
        self.hear_while(turns, &mut |_| true)
    }

    /// As [`Scorer::hear`], for as long as `go_on` says so: it is asked between two pieces of a window, and two windows, by the messages of one
    /// of the histories that were read. Other histories of this scorer may be read meanwhile.
    ///
    /// # Errors
    /// Also [`ScoreError::Stopped`], for a history that was not read to its end.
    pub fn hear_while(
        &self,
        turns: &mut [Turn],
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Vec<Result<Vec<Heard>, ScoreError>> {
        let mut goes_on = true;
        let mut go_on = |read| {
            goes_on = goes_on && go_on(read);
            goes_on
        };
        let drafts = turns.iter_mut().filter(|turn| turn.hearing != Hearing::Said);
        // What was said is computed once, not for every draft.
        self.compute(drafts.map(|turn| &mut turn.live.stream).collect(), &mut go_on);
        let begun: Vec<_> = turns.iter_mut().map(|turn| turn.begin(&mut go_on)).collect();
        let waiting = turns.iter_mut().map(|turn| &mut turn.live.stream).filter(|stream| stream.waits());
        self.compute(waiting.collect(), &mut go_on);
        let begun = turns.iter_mut().zip(begun);
        begun.map(|(turn, (before, waiting))| turn.end(before, waiting, goes_on)).collect()
    }

    /// Computes open windows together, a piece of each at a time, as far as that goes: one that cannot be computed does not keep the others,
    /// and whoever needs it is told.
    fn compute(&self, mut streams: Vec<&mut HeadStream>, go_on: GoOn) {
        loop {
            streams.retain(|stream| stream.is_due());
            let Some(first) = streams.first() else { return };
            if !go_on(first.read_count()) {
                return;
            }
            if compute(&self.model, &mut streams).is_err() {
                streams.retain_mut(|stream| compute(&self.model, &mut [stream]).is_ok());
            }
        }
    }
}

impl<'t> Turn<'t, '_> {
    /// Writes the messages into their windows.
    fn begin(&mut self, go_on: GoOn) -> (Option<Before>, Result<Vec<Waiting<'t>>, ScoreError>) {
        let before = match self.hearing {
            Hearing::Said => None,
            Hearing::Draft { new_session } => {
                let before = self.live.before();
                new_session.into_iter().for_each(|start| self.live.begin_session(start));
                Some(before)
            }
        };
        (before, self.live.take_in(self.messages, go_on))
    }

    /// What was heard; of a draft, nothing was said.
    fn end(
        &mut self,
        before: Option<Before>,
        waiting: Result<Vec<Waiting>, ScoreError>,
        goes_on: bool,
    ) -> Result<Vec<Heard>, ScoreError> {
        let heard = waiting.and_then(|waiting| {
            if self.live.stream.waits() && !goes_on {
                return Err(ScoreError::Stopped);
            }
            // What could not be computed says why.
            self.live.stream.flush(&self.live.scorer.model, &mut |_| true)?;
            Ok(self.live.judge_all(waiting))
        });
        before.into_iter().for_each(|before| self.live.go_back(before));
        heard
    }
}

impl Live<'_> {
    /// The messages after this are of a new session, which began then; without a time, when its first dated message was written,
    /// which is known from that message on.
    pub fn begin_session(&mut self, start: Option<Timestamp>) {
        let session = self.next.map_or(0, |(at, _)| at.session + 1);
        self.next = Some((MessageAt { session, message: 0 }, start));
    }

    /// Takes in the next message. `None` for a system or tool message: it is kept apart, and has a place but no score.
    ///
    /// # Errors
    /// When the engine fails; the history is then to be read anew.
    pub fn hear(&mut self, message: &Message) -> Result<Option<Heard>, ScoreError> {
        Ok(self.hear_all(std::slice::from_ref(message))?.pop())
    }

    /// Takes in the next messages, computed together; what was heard of those of the user and the assistant.
    ///
    /// # Errors
    /// As [`Live::hear`].
    pub fn hear_all(&mut self, messages: &[Message]) -> Result<Vec<Heard>, ScoreError> {
        let (scorer, hearing) = (self.scorer, Hearing::Said);
        scorer.hear(&mut [Turn { live: self, messages, hearing }]).pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Writes messages into their windows; of those that are scored, what is needed to judge them.
    fn take_in<'m>(&mut self, messages: &'m [Message], go_on: GoOn) -> Result<Vec<Waiting<'m>>, ScoreError> {
        let mut waiting = Vec::new();
        for message in messages {
            if let Some(said) = self.place(message) {
                waiting.push(Waiting { index: self.stream.len(), message, session_start: said.session_start });
                self.stream.push(self.reader, &self.scorer.model, said, go_on)?;
            }
        }
        Ok(waiting)
    }

    fn judge_all(&mut self, waiting: Vec<Waiting>) -> Vec<Heard> {
        let heard = waiting.into_iter().filter_map(|Waiting { index, message, session_start }| {
            let (at, score) = self.stream.message(index)?;
            self.step(at, message, score, session_start);
            let message = ScoredMessage { at, role: message.role, score, categories: Vec::new() };
            // Late messages are walked once, not one by one: each is told how it stands after the last.
            let stands = (!self.arcs.is_late()).then(|| self.stands());
            Some((message, stands))
        });
        let heard: Vec<_> = heard.collect();
        let last = heard.last().is_some_and(|(_, stands)| stands.is_none()).then(|| self.stands());
        let heard = heard.into_iter().filter_map(|(message, stands)| {
            let (arcs, verdict) = stands.or_else(|| last.clone())?;
            Some(Heard { message, arcs, verdict })
        });
        heard.collect()
    }

    /// Takes in a message that was heard before, with the score it had then: nothing is computed. `None` for a system or tool
    /// message, which has none.
    ///
    /// # Errors
    /// When the window leaves no room.
    pub fn recall(&mut self, message: &Message, score: Option<MessageScore>) -> Result<(), ScoreError> {
        let (Some(said), Some(score)) = (self.place(message), score) else { return Ok(()) };
        let (at, start) = (said.at, said.session_start);
        self.stream.recall(self.reader, &self.scorer.model, said, score)?;
        self.step(at, message, score, start);
        Ok(())
    }

    /// Takes in a message that was heard before and whose text is not there any more: it counts, and windows begin after it.
    pub fn recall_unread(&mut self, message: &Message, score: Option<MessageScore>) {
        if let (Some(said), Some(score)) = (self.place(message), score) {
            self.step(said.at, message, score, said.session_start);
        }
    }

    /// What [`Live::hear_all`] would say of these messages, in a new session where that is asked; afterwards nothing was said.
    ///
    /// # Errors
    /// As [`Live::hear`], but the history stays as it was.
    pub fn consider(
        &mut self,
        new_session: Option<Option<Timestamp>>,
        messages: &[Message],
    ) -> Result<Vec<Heard>, ScoreError> {
        let (scorer, hearing) = (self.scorer, Hearing::Draft { new_session });
        scorer.hear(&mut [Turn { live: self, messages, hearing }]).pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    fn before(&mut self) -> Before {
        Before { stream: self.stream.mark(), arcs: self.arcs.mark(), toward: self.toward.clone(), next: self.next }
    }

    fn go_back(&mut self, before: Before) {
        self.stream.go_back(before.stream);
        self.arcs.go_back(before.arcs);
        (self.toward, self.next) = (before.toward, before.next);
    }

    /// Both arcs as they stand.
    pub fn arcs(&self) -> &[ArcState; 2] {
        self.arcs.states()
    }

    /// Toward whom the evidence is, whoever has most of it first; nobody of messages whose text is not there any more.
    pub fn targets(&self) -> Vec<TargetScore> {
        targets(&self.scorer.policy(), &self.toward, self.arcs().each_ref().map(ArcState::evidence))
    }

    /// What the policy makes of them.
    pub fn verdict(&self) -> Verdict {
        self.scorer.policy().judge(&Facts { arcs: self.arcs(), named: &Named::default() })
    }

    /// The message on its way into the stream, if it is one that is scored; its place is taken in any case.
    fn place<'m>(&mut self, message: &'m Message) -> Option<Said<'m>> {
        let (at, session_start) = self.next.unwrap_or((MessageAt { session: 0, message: 0 }, None));
        let session_start = session_start.or(message.timestamp);
        self.next = Some((MessageAt { message: at.message + 1, ..at }, session_start));
        let scored = matches!(message.role, Role::User | Role::Assistant);
        scored.then_some(Said { at, role: message.role, content: &message.content, session_start })
    }

    fn step(&mut self, at: MessageAt, message: &Message, score: MessageScore, session_start: Option<Timestamp>) {
        let time = message.timestamp.or(session_start);
        let from_user = message.role == Role::User;
        let observation = Observation { at, time, from_user, score };
        self.arcs.step(&observation);
        self.toward.step(&observation, &message.content);
    }

    fn stands(&self) -> ([ArcNow; 2], Verdict) {
        (self.arcs().each_ref().map(ArcNow::of), self.verdict())
    }

    /// Forgets keys and values, some 50 MB of the embedded model's full window: they are computed again, from the same tokens, when
    /// the next message comes.
    pub fn forget_cache(&mut self) {
        self.stream.forget_cache();
    }

    /// Tokens of the window whose keys and values are not held: they are computed when the next message comes.
    pub fn cold_tokens(&self) -> usize {
        self.stream.cold_tokens()
    }

    /// Bytes of keys and values that are held.
    pub fn cached_bytes(&self) -> usize {
        self.stream.cached_bytes()
    }

    /// The place of the next message, unless a session begins with it.
    pub fn next_place(&self) -> MessageAt {
        self.next.map_or(MessageAt { session: 0, message: 0 }, |(at, _)| at)
    }

    /// Windows and tokens so far, those of drafts that were considered among the tokens, and what had to be done to read.
    pub fn notes(&self) -> ReadingNotes {
        self.stream.notes()
    }
}
