//! Both arcs of one user, whose sessions may arrive in any order.

use std::cell::OnceCell;
use std::collections::HashMap;

use jiff::Timestamp;

use super::{ArcKind, ArcState, Observation};

/// Both arcs of one user: harassment, delusion.
///
/// Evidence counts in the order of time, not of arrival: a session that arrives after one that began later takes its place before it, and
/// the arcs are walked again over everything. So the end state depends on what was observed alone, whatever order sessions arrived in
/// (but for sessions that begin at the same moment, and those without any time, which stay behind the one that they arrived after). In
/// the order of time a step costs the same however long the history is; a message of a late session costs a walk over all of it.
#[derive(Debug, Clone, Default)]
pub struct Arcs {
    /// All that was observed, in the order in which it arrived.
    observations: Vec<Observation>,
    /// Nothing while they are to be walked again.
    states: OnceCell<[ArcState; 2]>,
    time: SessionTime,
}

/// Where the last session stands in time.
#[derive(Debug, Clone, Copy, Default)]
struct SessionTime {
    /// When it began: by its first message with a time, or else with the session before it.
    began: Option<Timestamp>,
    is_known: bool,
    /// When the latest of those before it began.
    latest: Option<Timestamp>,
}

impl SessionTime {
    fn is_late(&self) -> bool {
        self.began < self.latest
    }
}

/// `Arcs` as they once were.
#[derive(Debug)]
pub struct ArcsMark {
    observations: usize,
    states: OnceCell<[ArcState; 2]>,
    time: SessionTime,
}

impl Arcs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one message; messages of a session come in its order, and one session after another.
    pub fn step(&mut self, observation: &Observation) {
        let begins = self.observations.last().is_none_or(|last| last.at.session != observation.at.session);
        if begins {
            let latest = self.time.latest.max(self.time.began);
            self.time = SessionTime { is_known: false, latest, ..self.time };
        }
        let moves = !self.time.is_known && observation.time.is_some();
        if moves {
            (self.time.began, self.time.is_known) = (observation.time, true);
        }
        self.observations.push(*observation);
        // A session that moves after its first message may have stood elsewhere.
        if self.is_late() || moves && !begins {
            self.states.take();
        } else if let Some(states) = self.states.get_mut() {
            states.iter_mut().for_each(|state| state.step(observation));
        }
    }

    /// Whether the session of the last message stands before another that arrived earlier.
    pub fn is_late(&self) -> bool {
        self.time.is_late()
    }

    /// The arcs as they stand.
    pub fn states(&self) -> &[ArcState; 2] {
        self.states.get_or_init(|| walked(&self.observations))
    }

    /// As they are now, to go back to.
    pub fn mark(&self) -> ArcsMark {
        let Self { observations, states, time } = self;
        ArcsMark { observations: observations.len(), states: states.clone(), time: *time }
    }

    /// Forgets everything since the mark.
    pub fn go_back(&mut self, mark: ArcsMark) {
        self.observations.truncate(mark.observations);
        (self.states, self.time) = (mark.states, mark.time);
    }
}

/// The arcs over all of it, in the order of time.
fn walked(observations: &[Observation]) -> [ArcState; 2] {
    let mut in_order: Vec<&Observation> = observations.iter().collect();
    sort_by_time(&mut in_order, |one| one);
    let mut states = ArcKind::ALL.map(ArcState::new);
    for observation in in_order {
        states.iter_mut().for_each(|state| state.step(observation));
    }
    states
}

/// Puts what was observed, session by session, into the order of time: sessions by their first message with a time, those without any
/// behind the one that they stood behind.
pub(crate) fn sort_by_time<T>(items: &mut [T], of: impl Fn(&T) -> &Observation) {
    let session = |item: &T| of(item).at.session;
    let (mut began, mut before) = (HashMap::new(), None);
    for items in items.chunk_by(|a, b| session(a) == session(b)) {
        before = items.iter().find_map(|item| of(item).time).or(before);
        began.insert(session(&items[0]), before);
    }
    items.sort_by_key(|item| began[&session(item)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arc::MessageAt;
    use crate::scoring::MessageScore;

    /// Sessions of messages, each of a strength and so many hours after the first; all begin at different times.
    fn sessions() -> impl Strategy<Value = Vec<(i64, Vec<f32>)>> {
        let session = (0..4_000i64, prop::collection::vec(0f32..1.0, 1..6));
        prop::collection::vec(session, 1..12).prop_map(|mut sessions| {
            sessions.sort_by_key(|(hour, _)| *hour);
            sessions.dedup_by_key(|(hour, _)| *hour);
            sessions
        })
    }

    fn observation(at: MessageAt, hour: i64, strength: f32) -> Observation {
        let rest = (1.0 - strength) / 2.0;
        let levels = [rest, rest, strength / 2.0, strength / 2.0];
        let case = Some(strength * 0.9);
        let score = MessageScore {
            harassment: levels,
            delusion: levels,
            stance: [0.1, 0.2, 0.3, 0.4],
            imminent: strength * strength,
            harassment_case: case,
            delusion_case: case,
            framed: None,
        };
        let time = Timestamp::from_second(1_700_000_000 + hour * 3_600 + at.message as i64).ok();
        Observation { at, time, from_user: at.message.is_multiple_of(2), score }
    }

    /// The arcs where sessions arrive in that order; they keep their places.
    fn arrived(sessions: &[(i64, Vec<f32>)], order: &[usize], asked: bool) -> Arcs {
        let mut arcs = Arcs::new();
        for &session in order {
            let (hour, strengths) = &sessions[session];
            for (message, &strength) in strengths.iter().enumerate() {
                arcs.step(&observation(MessageAt { session, message }, *hour, strength));
                if asked {
                    arcs.states();
                }
            }
        }
        arcs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn whatever_order_sessions_arrive_in_the_end_is_the_same(
            sessions in sessions(), keys in prop::collection::vec(any::<u32>(), 12), asked in any::<bool>(),
        ) {
            let in_time: Vec<usize> = (0..sessions.len()).collect();
            let mut shuffled = in_time.clone();
            shuffled.sort_by_key(|&session| keys[session]);
            let expected = arrived(&sessions, &in_time, true);
            let found = arrived(&sessions, &shuffled, asked);
            prop_assert_eq!(expected.states(), found.states());
            // One state stepped through all of it, with nothing remembered, is the same again.
            let mut alone = ArcKind::ALL.map(ArcState::new);
            for observation in &expected.observations {
                alone.iter_mut().for_each(|state| state.step(observation));
            }
            prop_assert_eq!(expected.states(), &alone);
        }

        #[test]
        fn what_was_a_draft_leaves_nothing_behind(
            sessions in sessions(), keys in prop::collection::vec(any::<u32>(), 12), draft in 0..4_000i64,
        ) {
            let mut order: Vec<usize> = (0..sessions.len()).collect();
            order.sort_by_key(|&session| keys[session]);
            let expected = arrived(&sessions, &order, true);
            let mut found = arrived(&sessions, &order, false);
            let mark = found.mark();
            found.step(&observation(MessageAt { session: 99, message: 0 }, draft, 0.9));
            found.states();
            found.go_back(mark);
            prop_assert_eq!(expected.states(), found.states());
            let next = observation(MessageAt { session: 100, message: 0 }, 5_000, 0.5);
            let mut expected = expected;
            expected.step(&next);
            found.step(&next);
            prop_assert_eq!(expected.states(), found.states());
        }
    }

    #[test]
    fn sessions_without_a_time_stay_behind_the_one_before_them() {
        let undated = |session| Observation { time: None, ..observation(MessageAt { session, message: 0 }, 0, 0.7) };
        let dated = |session, hour| observation(MessageAt { session, message: 0 }, hour, 0.4);
        let all = [dated(0, 500), undated(1), dated(2, 100), undated(3)];
        let (mut arcs, mut asked) = (Arcs::new(), Arcs::new());
        for one in &all {
            arcs.step(one);
            asked.step(one);
            asked.states();
        }
        assert_eq!(arcs.states(), asked.states());
        let mut expected = ArcKind::ALL.map(ArcState::new);
        for one in [&all[2], &all[3], &all[0], &all[1]] {
            expected.iter_mut().for_each(|state| state.step(one));
        }
        assert_eq!(arcs.states(), &expected);
    }
}
