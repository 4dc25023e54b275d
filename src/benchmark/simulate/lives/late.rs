//! Labelled histories that begin late in an innocent life.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{LifeSettings, Pool};
use crate::arc::MessageAt;
use crate::benchmark::data::DataSet;
use crate::benchmark::detector::{ModelScores, ScoredMessage};
use crate::benchmark::metrics::bootstrap::SplitMix64;
use crate::transcript::{Message, Session};

/// Messages before all histories of a set together.
const BEFORE_MESSAGES_MAX: usize = 5_000_000;

/// What stands before a history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Before {
    /// Innocent sessions, drawn with replacement.
    pub sessions: usize,
    /// Between the beginnings of two of them, and of the last and the history.
    pub gap_days: f64,
    pub seed: u64,
}

/// Histories with what stands before them, and what a model says of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Late {
    pub set: DataSet,
    pub scores: ModelScores,
}

/// Innocent sessions and what was written down of them, in the order of a history.
struct Drawn {
    sessions: Vec<Session>,
    scored: Vec<ScoredMessage>,
}

impl Pool {
    /// The set with innocent sessions before each history whose arcs are judged, so that what is labelled begins late in a life; the
    /// places of onsets and labels move on with their messages. An alarm in these sessions is a false one where the history has no
    /// arc, and one before the onset where it has. Of other histories, and with no session before them, nothing changes.
    ///
    /// Scores were written down without text: these messages are empty, and a detector that reads text finds nothing in them. An original
    /// and its twin begin after the same life, so that they still differ in nothing else. A history of unknown time begins after sessions
    /// of unknown time.
    ///
    /// # Errors
    /// When there is nothing to draw from, too much to hold, or too much to draw.
    pub fn before(&self, set: &DataSet, scores: &ModelScores, before: Before) -> Result<Late, String> {
        self.check_before(set, before)?;
        // Lives that fix thresholds are drawn from the seed itself; these are to be others.
        let (mut random, mut seeds) = (SplitMix64::new(!before.seed), HashMap::new());
        let mut late = Late { set: set.clone(), scores: ModelScores::new() };
        for example in &mut late.set.examples {
            let id = &example.history.user_id;
            let Some(own) = scores.get(id) else { continue };
            if example.arcs.is_none() {
                late.scores.insert(id.clone(), own.clone());
                continue;
            }
            let seed = *seeds.entry(example.cluster.clone()).or_insert_with(|| random.next_u64());
            let begins = example.history.sessions.iter().find_map(Session::start);
            let Drawn { sessions, mut scored } = self.drawn(Before { seed, ..before }, begins);
            let moved = |at: MessageAt| MessageAt { session: at.session + before.sessions, ..at };
            scored.extend(own.iter().map(|one| ScoredMessage { at: moved(one.at), ..*one }));
            late.scores.insert(id.clone(), scored);
            example.history.sessions.splice(0..0, sessions);
            example.arcs = example.arcs.map(|onsets| onsets.map(|onset| onset.map(moved)));
            example.labels.iter_mut().for_each(|label| label.at = label.at.map(moved));
        }
        Ok(late)
    }

    /// Whether there is something to draw from, and by the mean of its sessions not too much to draw.
    fn check_before(&self, set: &DataSet, before: Before) -> Result<(), String> {
        self.check_held()?;
        let histories = set.examples.iter().filter(|example| example.arcs.is_some()).count();
        let sessions = histories.saturating_mul(before.sessions);
        let messages = sessions.saturating_mul(self.messages) / self.sessions.len();
        if messages > BEFORE_MESSAGES_MAX {
            return Err(format!(
                "about {messages} messages before the histories of {}, the limit is {BEFORE_MESSAGES_MAX}; hint: fewer sessions with --after",
                set.name
            ));
        }
        Ok(())
    }

    /// Innocent sessions up to the moment at which a history begins.
    fn drawn(&self, before: Before, begins: Option<Timestamp>) -> Drawn {
        let Before { sessions, gap_days, seed } = before;
        let started_at = |index: usize| {
            let seconds = ((sessions - index) as f64 * gap_days * 86_400.0) as i64;
            Timestamp::from_second(begins?.as_second().saturating_sub(seconds)).ok()
        };
        let empty = |index| Session { session_id: String::new(), started_at: started_at(index), messages: Vec::new() };
        let mut drawn = Drawn { sessions: (0..sessions).map(empty).collect(), scored: Vec::new() };
        let life = LifeSettings { lives: 1, sessions, gap_days, seed };
        self.draw(life, &mut SplitMix64::new(seed), &mut |_, scored, _| {
            let messages = &mut drawn.sessions[scored.at.session].messages;
            let at = MessageAt { message: messages.len(), ..scored.at };
            messages.push(Message { role: scored.role, content: String::new(), timestamp: None });
            drawn.scored.push(ScoredMessage { at, ..scored });
        });
        drawn
    }
}
