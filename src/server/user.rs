//! One user's history in memory, and when it raises an alarm.

use tokio::sync::broadcast;

use super::judging::Judging;
use super::metrics::Metrics;
use super::problem::Problem;
use super::wire::{SinceOut, StandingOut};
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
    since_seen: SinceSeen,
}

/// The arcs from the message on that came after a person last acknowledged alarms, by their levels alone: windows, and so the
/// odds of an open case, still hold what that person saw.
#[derive(Default)]
struct SinceSeen(Arcs);

impl SinceSeen {
    fn step(&mut self, observation: &Observation) {
        let score = MessageScore { harassment_case: None, delusion_case: None, ..observation.score };
        self.0.step(&Observation { score, ..*observation });
    }

    fn verdict(&self, policy: &Policy) -> Verdict {
        policy.judge(&Facts { arcs: self.0.states(), named: &Named::default() })
    }
}

impl<'a> UserLive<'a> {
    /// What is kept of a user, recalled: nothing of it is computed again.
    pub fn recall(scorer: &'a Scorer, sessions: &[KeptSession], row: &UserRow) -> Result<Self, Failed> {
        let since_seen = SinceSeen::default();
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
            self.since_seen = SinceSeen::default();
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
        let (at, time, from_user) = (message.at, message.time, message.role == Role::User);
        self.since_seen.step(&Observation { at, time, from_user, score });
    }

    /// What came since a person last acknowledged alarms would come to by itself; `None` before anybody did.
    pub fn since(&self, policy: &Policy) -> Option<Verdict> {
        (self.row.seen_messages > 0).then(|| self.since_seen.verdict(policy))
    }

    /// The same with a draft, of which nothing stays.
    pub fn since_with(&mut self, draft: &[KeptMessage], policy: &Policy) -> Option<Verdict> {
        let mark = self.since_seen.0.mark();
        draft.iter().for_each(|message| self.step_since(message));
        let since = self.since(policy);
        self.since_seen.0.go_back(mark);
        since
    }

    /// What of it is told: with the alarm that waits, or that the turn or draft raises.
    pub fn since_out(&self, verdict: &Verdict, since: Option<&Verdict>) -> Option<SinceOut> {
        let waits = self.row.open_alarm.max(self.raises(verdict, since));
        since.map(|since| SinceOut::of(since, verdict, waits))
    }

    /// The level of the alarm that a turn raises, if it does; `since` is [`UserLive::since`] with the turn.
    ///
    /// What an acknowledgement means for the promise that an innocent history ever alarms with probability α at most ([`crate::arc`]): that
    /// is a promise of one walk over the evidence. An acknowledgement begins another beside it, over what comes from then on, with the whole
    /// of α and of the money for its bets again; the walk since the acknowledgement before ends with it. So by the union bound n
    /// acknowledgements make it (n + 1) α, not α, at every level that a score gives. The walks after the first are over levels alone: what
    /// bounds them is Ville's inequality for their wealth, with no case's odds in it. Nothing of this bounds `urgent`, nor what rules raise.
    pub fn raises(&self, verdict: &Verdict, since: Option<&Verdict>) -> Option<Level> {
        raised(&self.row, verdict, since.map(|since| since.level))
    }
}

/// Where an arc, or the user as a whole, comes to a level of `review` or above that no alarm was raised at before; or where a person
/// acknowledged what there was, and what came `since` would come to one by itself that is above what still waits. Old evidence raises
/// none again.
fn raised(row: &UserRow, verdict: &Verdict, since: Option<Level>) -> Option<Level> {
    let arcs = ArcKind::ALL.map(|kind| verdict.arc_level(kind));
    if is_new(arcs[0], row.alarmed[0]) || is_new(arcs[1], row.alarmed[1]) || is_new(verdict.level, row.alarmed[2]) {
        return Some(verdict.level);
    }
    raised_since(row, since)
}

/// The same of what came `since` alone.
fn raised_since(row: &UserRow, since: Option<Level>) -> Option<Level> {
    since.filter(|since| is_new(*since, row.open_alarm))
}

/// Whether a level calls a person whom the one before did not.
fn is_new(now: Level, before: Option<Level>) -> bool {
    now >= Level::Review && before.is_none_or(|before| now > before)
}

/// Counts an alarm that was raised and is kept, and tells those who listen.
pub(super) fn tell_of_alarm((alarm, level): (i64, Level), metrics: &Metrics, listeners: &broadcast::Sender<i64>) {
    metrics.alarmed(level);
    tracing::info!(alarm, level = level.as_str(), "an alarm was raised");
    // Nobody listens where this fails.
    let _ = listeners.send(alarm);
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
            Self::Store(error) => Problem::of_store(error),
            // Whoever asked went away.
            Self::Score(ScoreError::Stopped) => Problem::broken(),
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

/// How a user stands by what is kept, and by what of it no person has seen.
pub(super) fn standing(sessions: &[KeptSession], row: &UserRow, judging: &Judging) -> StandingOut {
    let (arcs, verdict, since) = walked(sessions, row, &judging.policy);
    let since = since.map(|since| SinceOut::of(&since, &verdict, row.open_alarm));
    StandingOut::of((&arcs.states().each_ref().map(ArcNow::of), &verdict), since, &judging.by)
}

/// The alarm that what no person has seen is worth by itself, and the verdict on all that is kept, as a turn's alarm has it. The level of
/// the whole raises none here: what it was raised at before, a person saw or waits for.
pub(super) fn unseen_alarm(sessions: &[KeptSession], row: &UserRow, policy: &Policy) -> Option<(Level, Verdict)> {
    let (_, verdict, since) = walked(sessions, row, policy);
    Some((raised_since(row, since.map(|since| since.level))?, verdict))
}

/// The arcs walked again over the scores, what they come to, and what those do that no person has seen; `None` before anybody saw any.
fn walked(sessions: &[KeptSession], row: &UserRow, policy: &Policy) -> (Arcs, Verdict, Option<Verdict>) {
    let (mut arcs, mut since) = (Arcs::new(), SinceSeen::default());
    for (number, _, observation) in scored(sessions) {
        arcs.step(&observation);
        if number >= row.seen_messages {
            since.step(&observation);
        }
    }
    let verdict = policy.judge(&Facts { arcs: arcs.states(), named: &Named::default() });
    let since = (row.seen_messages > 0).then(|| since.verdict(policy));
    (arcs, verdict, since)
}

/// Toward whom a user's evidence is, by what is kept; and how many messages have no text any more.
pub(super) fn toward(sessions: &[KeptSession], judging: &Judging) -> (Vec<TargetScore>, usize) {
    let (mut arcs, mut toward, mut unread) = (Arcs::new(), Toward::new(), 0);
    for (_, message, observation) in scored(sessions) {
        arcs.step(&observation);
        toward.step(&observation, message.content.as_deref().unwrap_or_default());
        unread += usize::from(message.content.is_none());
    }
    (targets(&judging.policy, &toward, arcs.states().each_ref().map(ArcState::evidence)), unread)
}

/// The messages that have scores, each with its number among all that are kept.
fn scored(sessions: &[KeptSession]) -> impl Iterator<Item = (u64, &KeptMessage, Observation)> {
    let messages = sessions.iter().flat_map(|session| {
        let start = session.started_at.or_else(|| session.messages.iter().find_map(|message| message.time));
        session.messages.iter().map(move |message| (message, message.time.or(start)))
    });
    (0..).zip(messages).filter_map(|(number, (message, time))| {
        let (at, from_user) = (message.at, message.role == Role::User);
        Some((number, message, Observation { at, time, from_user, score: message.score? }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::MessageAt;
    use crate::server::wire::JudgedByOut;

    #[test]
    fn a_new_threat_is_an_alarm_while_a_lower_one_waits() {
        let policy = Policy::default();
        let nothing = policy.judge(&Facts { arcs: &[], named: &Named::default() });
        // Everything was raised before, a person saw it, and what came since stands at the level given.
        let told = |open_alarm, since| {
            let row = UserRow { alarmed: [Some(Level::Urgent); 3], seen_messages: 4, open_alarm, ..UserRow::default() };
            raised(&row, &nothing, Some(since))
        };
        assert_eq!(told(None, Level::Review), Some(Level::Review));
        assert_eq!(told(Some(Level::Review), Level::Review), None, "it waits already");
        assert_eq!(told(Some(Level::Review), Level::Urgent), Some(Level::Urgent));
        assert_eq!(told(Some(Level::Urgent), Level::Urgent), None);
        assert_eq!(told(None, Level::Watch), None, "nobody is called for that");
        let unseen = UserRow { alarmed: [Some(Level::Urgent); 3], ..UserRow::default() };
        assert_eq!(raised(&unseen, &nothing, None), None, "nobody has seen the first yet");
    }

    /// What was said; messages without a score are the system's.
    fn session(scores: &[Option<MessageScore>]) -> KeptSession {
        let kept = |(message, score): (usize, &Option<MessageScore>)| KeptMessage {
            at: MessageAt { session: 0, message },
            role: score.map_or(Role::System, |_| Role::User),
            content: None,
            digest: None,
            time: None,
            score: *score,
        };
        let messages = scores.iter().enumerate().map(kept).collect();
        KeptSession { session_id: "s".into(), started_at: None, messages }
    }

    /// How a user stands who said that, of which a person saw so much, while that alarm waits.
    fn stands(scores: &[Option<MessageScore>], seen_messages: u64, open_alarm: Option<Level>) -> StandingOut {
        let by = || String::from("tested");
        let by = JudgedByOut { model: by(), model_sha256: by(), policy: by(), policy_sha256: by() };
        let row = UserRow { seen_messages, open_alarm, ..UserRow::default() };
        standing(&[session(scores)], &row, &Judging { policy: Policy::default(), by })
    }

    #[test]
    fn what_is_recommended_ends_beside_the_state_when_a_person_saw_it() {
        let calm = Some(MessageScore::NOTHING);
        let threat = Some(MessageScore { harassment: [0.0, 0.0, 0.0, 1.0], imminent: 0.9, ..MessageScore::NOTHING });
        let urgent = ["rate-limit", "features-restricted", "review-before-restoring"].map(String::from).to_vec();
        let since = |level, mitigations| Some(SinceOut { level, mitigations });
        let said = [None, threat, calm, calm, None, threat];
        assert_eq!(stands(&said[..4], 0, Some(Level::Urgent)).since_seen, None, "nobody has seen it");
        let seen = stands(&said[..4], 2, None);
        assert_eq!((seen.level, &seen.mitigations), (Level::Urgent, &urgent), "the state is what it was");
        assert_eq!(seen.since_seen, since(Level::None, Vec::new()));
        let waits = stands(&said[..4], 2, Some(Level::Review)).since_seen;
        assert_eq!(waits, since(Level::Review, urgent.clone()), "another alarm waits, whatever it rests on");
        assert_eq!(stands(&said, 5, None).since_seen, since(Level::Urgent, urgent), "another threat");
        assert_eq!(stands(&said, 6, None).since_seen, since(Level::None, Vec::new()), "which a person saw, too");
    }

    #[test]
    fn what_came_after_the_alarm_that_was_looked_at_is_worth_one() {
        let calm = Some(MessageScore::NOTHING);
        let threat = Some(MessageScore { harassment: [0.0, 0.0, 0.0, 1.0], imminent: 0.9, ..MessageScore::NOTHING });
        let said = [threat, None, calm, threat, threat, calm];
        let worth = |seen_messages, open_alarm, alarmed| {
            let row = UserRow { seen_messages, open_alarm, alarmed: [alarmed; 3], ..UserRow::default() };
            let found = unseen_alarm(&[session(&said)], &row, &Policy::default());
            found.map(|(level, verdict)| (level, verdict.level))
        };
        let (urgent, review) = (Some(Level::Urgent), Some(Level::Review));
        let called = Some((Level::Urgent, Level::Urgent));
        assert_eq!(worth(1, None, urgent), called, "two threats that nobody saw");
        assert_eq!(worth(4, None, urgent), called, "the last of them");
        assert_eq!(worth(1, review, urgent), called, "what waits is lower");
        assert_eq!(worth(1, urgent, urgent), None, "somebody is called for them already");
        assert_eq!(worth(5, None, urgent), None, "what came after is nothing");
        assert_eq!(worth(5, None, None), None, "whatever the whole comes to");
        assert_eq!(worth(0, None, urgent), None, "nobody has looked yet");
    }
}
