//! One user's history in memory, and when it raises an alarm.

use super::judging::Judging;
use super::problem::Problem;
use super::wire::StandingOut;
use crate::arc::{ArcKind, ArcState, Arcs, Observation};
use crate::scorer::{ArcNow, Live, ScoreError, Scorer, TargetScore, targets};
use crate::scoring::MessageScore;
use crate::store::{KeptMessage, KeptSession, StoreError, UserRow};
use crate::target::Toward;
use crate::transcript::{Message, Role};
use crate::verdict::{Facts, Level, Named, Policy, Verdict};

/// A user's history in memory.
pub(super) struct UserLive<'a> {
    pub live: Live<'a>,
    /// The row of the store that it is in step with.
    pub row: UserRow,
    pub session_id: Option<String>,
    /// The arcs from the message on that came after a person last acknowledged alarms, by their levels alone: windows, and so the
    /// odds of an open case, still hold what that person saw.
    since_seen: Arcs,
}

impl<'a> UserLive<'a> {
    /// What is kept of a user, recalled: nothing of it is computed again.
    pub fn recall(scorer: &'a Scorer, sessions: &[KeptSession], row: &UserRow) -> Result<Self, Failed> {
        let since_seen = Arcs::new();
        let mut user = Self { live: scorer.live()?, row: *row, session_id: None, since_seen };
        let mut number = 0;
        for session in sessions {
            user.live.begin_session(session.started_at);
            user.session_id = Some(session.session_id.clone());
            for kept in &session.messages {
                if number >= row.seen_messages {
                    user.step_since(kept);
                }
                number += 1;
                let content = kept.content.clone().unwrap_or_default();
                let message = Message { role: kept.role, content, timestamp: kept.time };
                match kept.content.is_some() {
                    true => user.live.recall(&message, kept.score)?,
                    false => user.live.recall_unread(&message, kept.score),
                }
            }
        }
        let found = (number, sessions.len() as u64);
        if found == (row.messages, row.sessions) { Ok(user) } else { Err(StoreError::WentOn.into()) }
    }

    /// The history, if it is what the row stands for, and nothing of it was dropped since; what a person acknowledged meanwhile is known
    /// only where that was everything.
    pub fn in_step(mut self, row: &UserRow) -> Option<Self> {
        let of = |row: &UserRow| (row.id, row.messages, row.sessions, row.dropped);
        let same_seen = row.seen_messages == self.row.seen_messages;
        if of(&self.row) != of(row) || !same_seen && row.seen_messages != row.messages {
            return None;
        }
        if !same_seen {
            self.since_seen = Arcs::new();
        }
        self.row = *row;
        Some(self)
    }

    /// Takes in a scored message that came after what a person saw.
    pub fn step_since(&mut self, message: &KeptMessage) {
        if self.row.seen_messages == 0 {
            return;
        }
        let Some(score) = message.score else { return };
        let score = MessageScore { harassment_case: None, delusion_case: None, ..score };
        let (at, time, from_user) = (message.at, message.time, message.role == Role::User);
        self.since_seen.step(&Observation { at, time, from_user, score });
    }

    /// The level of the alarm that a turn raises, if it does.
    ///
    /// What an acknowledgement means for the promise that an innocent history ever alarms with probability α at most ([`crate::arc`]): that
    /// is a promise of one walk over the evidence. An acknowledgement begins another beside it, over what comes from then on, with the whole
    /// of α and of the money for its bets again; the walk since the acknowledgement before ends with it. So by the union bound n
    /// acknowledgements make it (n + 1) α, not α, at every level that a score gives. The walks after the first are over levels alone: what
    /// bounds them is Ville's inequality for their wealth, with no case's odds in it. Nothing of this bounds `urgent`, nor what rules raise.
    pub fn raises(&self, verdict: &Verdict, policy: &Policy) -> Option<Level> {
        let since = Facts { arcs: self.since_seen.states(), named: &Named::default() };
        raised(&self.row, verdict, policy.level(&since))
    }
}

/// Where an arc, or the user as a whole, comes to a level of `review` or above that no alarm was raised at before; or where a person
/// acknowledged what there was, and what came `since` would come to one by itself that is above what still waits. Old evidence raises
/// none again.
fn raised(row: &UserRow, verdict: &Verdict, since: Level) -> Option<Level> {
    let new = |now: Level, before: Option<Level>| now >= Level::Review && before.is_none_or(|before| now > before);
    let arcs = ArcKind::ALL.map(|kind| verdict.arc_level(kind));
    if new(arcs[0], row.alarmed[0]) || new(arcs[1], row.alarmed[1]) || new(verdict.level, row.alarmed[2]) {
        return Some(verdict.level);
    }
    (row.seen_messages > 0 && new(since, row.open_alarm)).then_some(since)
}

/// Why a turn was not done.
pub(super) enum Failed {
    Store(StoreError),
    Score(ScoreError),
    Told(Problem),
}

impl Failed {
    pub fn told(self) -> Problem {
        match self {
            Self::Store(error) => {
                tracing::error!(%error, "the store failed");
                error.into()
            }
            Self::Score(error) => {
                tracing::error!(%error, "the model failed");
                Problem::broken()
            }
            Self::Told(problem) => problem,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ScoreError> for Failed {
    fn from(error: ScoreError) -> Self {
        Self::Score(error)
    }
}

/// How a user stands by what is kept: the arcs walked again over the scores.
pub(super) fn standing(sessions: &[KeptSession], judging: &Judging) -> StandingOut {
    let mut arcs = Arcs::new();
    scored(sessions).for_each(|(_, observation)| arcs.step(&observation));
    let arcs = arcs.states();
    let verdict = judging.policy.judge(&Facts { arcs, named: &Named::default() });
    StandingOut::of(&arcs.each_ref().map(ArcNow::of), &verdict, &judging.by)
}

/// Toward whom a user's evidence is, by what is kept; and how many messages have no text any more.
pub(super) fn toward(sessions: &[KeptSession], judging: &Judging) -> (Vec<TargetScore>, usize) {
    let (mut arcs, mut toward, mut unread) = (Arcs::new(), Toward::new(), 0);
    for (message, observation) in scored(sessions) {
        arcs.step(&observation);
        toward.step(&observation, message.content.as_deref().unwrap_or_default());
        unread += usize::from(message.content.is_none());
    }
    (targets(&judging.policy, &toward, arcs.states().each_ref().map(ArcState::evidence)), unread)
}

/// The messages that have scores.
fn scored(sessions: &[KeptSession]) -> impl Iterator<Item = (&KeptMessage, Observation)> {
    sessions.iter().flat_map(|session| {
        let start = session.started_at.or_else(|| session.messages.iter().find_map(|message| message.time));
        session.messages.iter().filter_map(move |message| {
            let (time, from_user) = (message.time.or(start), message.role == Role::User);
            Some((message, Observation { at: message.at, time, from_user, score: message.score? }))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_threat_is_an_alarm_while_a_lower_one_waits() {
        let policy = Policy::default();
        let nothing = policy.judge(&Facts { arcs: &[], named: &Named::default() });
        // Everything was raised before, a person saw it, and what came since stands at the level given.
        let told = |open_alarm, since| {
            let row = UserRow { alarmed: [Some(Level::Urgent); 3], seen_messages: 4, open_alarm, ..UserRow::default() };
            raised(&row, &nothing, since)
        };
        assert_eq!(told(None, Level::Review), Some(Level::Review));
        assert_eq!(told(Some(Level::Review), Level::Review), None, "it waits already");
        assert_eq!(told(Some(Level::Review), Level::Urgent), Some(Level::Urgent));
        assert_eq!(told(Some(Level::Urgent), Level::Urgent), None);
        assert_eq!(told(None, Level::Watch), None, "nobody is called for that");
        let unseen = UserRow { alarmed: [Some(Level::Urgent); 3], ..UserRow::default() };
        assert_eq!(raised(&unseen, &nothing, Level::Urgent), None, "nobody has seen the first yet");
    }
}
