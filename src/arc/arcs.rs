//! Both arcs of one user, whose sessions may arrive in any order.

use std::cell::OnceCell;

use jiff::Timestamp;

use super::{ArcKind, ArcState, Observation};

/// Both arcs of one user: harassment, delusion.
///
/// Evidence counts in the order of time, not of arrival: a session that arrives after one that began later takes its place before it, and
/// the arcs are walked again over everything. So the end state depends on what was observed alone, whatever order sessions arrived in
/// (but for sessions that begin at the same moment, and those without any time, which stay behind the one that they arrived after). In
/// the order of time a step costs the same however long the history is; a message of a late session costs a walk, some 50 ns a message.
#[derive(Debug, Clone, Default)]
pub struct Arcs {
    /// All that was observed, in the order in which it arrived.
    observations: Vec<Observation>,
    /// Nothing while they are to be walked again.
    states: OnceCell<[ArcState; 2]>,
    /// When the last session began, if that is known, and the latest of those before it.
    began: Option<Timestamp>,
    latest: Option<Timestamp>,
}

/// `Arcs` as they once were.
#[derive(Debug)]
pub struct ArcsMark {
    observations: usize,
    states: OnceCell<[ArcState; 2]>,
    began: Option<Timestamp>,
    latest: Option<Timestamp>,
}

impl Arcs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one message; messages of a session come in its order, and one session after another.
    pub fn step(&mut self, observation: &Observation) {
        if self.observations.last().is_some_and(|last| last.at.session != observation.at.session) {
            self.latest = self.latest.max(self.began.take());
        }
        self.began = self.began.or(observation.time);
        self.observations.push(*observation);
        let late = self.began.is_some() && self.began < self.latest;
        if late {
            self.states.take();
        } else if let Some(states) = self.states.get_mut() {
            states.iter_mut().for_each(|state| state.step(observation));
        }
    }

    /// The arcs as they stand.
    pub fn states(&self) -> &[ArcState; 2] {
        self.states.get_or_init(|| walked(&self.observations))
    }

    /// As they are now, to go back to.
    pub fn mark(&self) -> ArcsMark {
        let Self { observations, states, began, latest } = self;
        ArcsMark { observations: observations.len(), states: states.clone(), began: *began, latest: *latest }
    }

    /// Forgets everything since the mark.
    pub fn go_back(&mut self, mark: ArcsMark) {
        self.observations.truncate(mark.observations);
        (self.states, self.began, self.latest) = (mark.states, mark.began, mark.latest);
    }
}

/// The arcs over all of it, in the order of time.
fn walked(observations: &[Observation]) -> [ArcState; 2] {
    let mut sessions: Vec<(Option<Timestamp>, &[Observation])> = Vec::new();
    for session in observations.chunk_by(|a, b| a.at.session == b.at.session) {
        let before = sessions.last().and_then(|(began, _)| *began);
        sessions.push((session.iter().find_map(|one| one.time).or(before), session));
    }
    sessions.sort_by_key(|(began, _)| *began);
    let mut states = ArcKind::ALL.map(ArcState::new);
    for observation in sessions.into_iter().flat_map(|(_, session)| session) {
        states.iter_mut().for_each(|state| state.step(observation));
    }
    states
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
        };
        let time = Timestamp::from_second(1_700_000_000 + hour * 3_600 + at.message as i64).ok();
        Observation { at, time, from_user: at.message % 2 == 0, score }
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
        let mut arcs = Arcs::new();
        all.iter().for_each(|one| arcs.step(one));
        let mut expected = ArcKind::ALL.map(ArcState::new);
        for one in [&all[2], &all[3], &all[0], &all[1]] {
            expected.iter_mut().for_each(|state| state.step(one));
        }
        assert_eq!(arcs.states(), &expected);
    }
}
