//! A history as it is being said: every message is judged when it comes, at the price of its own tokens.

use jiff::Timestamp;

use super::heads::{HeadReader, HeadStream, Said};
use super::{Reader, ReadingNotes, ScoreError, ScoredMessage, Scorer};
use crate::arc::{ArcKind, ArcState, MessageAt, Observation};
use crate::engine::EngineError;
use crate::transcript::{Message, Role};
use crate::verdict::{Facts, Named, Verdict};

/// One user's history on its way.
///
/// What it says of a message is what [`Scorer::score`] says of it in the whole history: the windows are the same, and
/// of each only what is new is computed, on the keys and values of what was. In f32 scores are equal but for rounding; in bfloat16
/// as far as [`Scorer`] says of prefixes.
pub struct Live<'a> {
    scorer: &'a Scorer,
    reader: &'a HeadReader,
    stream: HeadStream,
    arcs: [ArcState; 2],
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

/// An arc as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArcNow {
    pub kind: ArcKind,
    /// 0 to 1, at its height so far, and at this message.
    pub score: f32,
    pub score_now: f32,
    pub onset: Option<MessageAt>,
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
            stream: HeadStream::new(self.spec)?,
            arcs: ArcKind::ALL.map(ArcState::new),
            next: None,
        })
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
        let (at, session_start) = match self.next {
            Some(next) => next,
            None => (MessageAt { session: 0, message: 0 }, None),
        };
        let session_start = session_start.or(message.timestamp);
        self.next = Some((MessageAt { message: at.message + 1, ..at }, session_start));
        if !matches!(message.role, Role::User | Role::Assistant) {
            return Ok(None);
        }
        let model = &self.scorer.model;
        self.stream.push(
            self.reader,
            model,
            Said { at, role: message.role, content: &message.content, session_start },
        )?;
        self.stream.flush(model)?;
        let Some(message) = self.stream.last().map(|score| (message, score)) else { return Ok(None) };
        Ok(Some(self.judge(at, message, session_start)))
    }

    fn judge(
        &mut self,
        at: MessageAt,
        (message, score): (&Message, crate::scoring::MessageScore),
        session_start: Option<Timestamp>,
    ) -> Heard {
        let time = message.timestamp.or(session_start);
        let from_user = message.role == Role::User;
        self.arcs.iter_mut().for_each(|arc| arc.step(&Observation { at, time, from_user, score }));
        let arcs = self.arcs.each_ref().map(|arc| ArcNow {
            kind: arc.kind(),
            score: arc.score(),
            score_now: arc.score_now(),
            onset: arc.onset(),
        });
        let verdict = self.scorer.policy.judge(&Facts { arcs: &self.arcs, named: &Named::default() });
        Heard { message: ScoredMessage { at, role: message.role, score, categories: Vec::new() }, arcs, verdict }
    }

    /// Forgets keys and values, some 25 MB of the embedded model's full window: they are computed again, from the same tokens, when
    /// the next message comes.
    pub fn forget_cache(&mut self) {
        self.stream.forget_cache();
    }

    /// Windows and tokens so far, and what had to be done to read.
    pub fn notes(&self) -> ReadingNotes {
        self.stream.notes()
    }
}
