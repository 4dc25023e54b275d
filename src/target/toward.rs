//! Harassment of one user, divided among the people it is toward.
//!
//! A message's levels go, whole, to an [`ArcState`] of each person it is about. What the guard says of an open case is left out there:
//! that is said of the whole history, and would count against everybody in it. These states say toward whom, and how it is divided;
//! levels and alarms are the user's own arc's alone, so that a wrong link never loses a case.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{People, PersonId, Said};
use crate::arc::{ARC_SCORE_MIN, ArcKind, ArcState, Evidence, MessageAt, Observation, sort_by_time};

/// User messages about somebody that are kept: of more, the last.
const MESSAGES_KEPT: usize = 4_096;

/// The people of one user, and the messages about them.
///
/// Sessions may arrive late. What counts in each person's state then stands in the order of time, as in [`Arcs`](crate::arc::Arcs); but
/// who a message is about is settled once, when it arrives, by who is known and in mind then: "she" in a late session may mean somebody
/// else than it would have in its place, and "the nurse" somebody who was spoken of only later. Names and relations that say by
/// themselves whom they mean are linked alike in either order. To link anew, all texts would have to be kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Toward {
    people: People,
    about: VecDeque<(Observation, Vec<PersonId>)>,
}

/// Someone a user's messages are about.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub id: PersonId,
    /// The first name or relation as it was written.
    pub label: String,
    pub mentions: u32,
    /// Messages about them.
    pub messages: usize,
    /// The first and the last that names them.
    pub first: MessageAt,
    pub last: MessageAt,
    /// Harassment, of the messages about them alone.
    pub state: ArcState,
    /// Their part of the user's evidence of harassment and of delusion, 0 to 1.
    pub shares: [f32; 2],
}

impl Toward {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next message; only the user's are read.
    pub fn step(&mut self, observation: &Observation, text: &str) {
        if !observation.from_user {
            return;
        }
        let spoken = self.people.step(&Said { at: observation.at, time: observation.time, text });
        if spoken.about.is_empty() {
            return;
        }
        if self.about.len() == MESSAGES_KEPT {
            self.about.pop_front();
        }
        self.about.push_back((*observation, spoken.about));
    }

    /// Those who have a part in the user's evidence, or an arc of their own: whoever has most first. `evidence` is of the user's own
    /// arcs; of a message about several each has a part by how many messages are about them.
    pub fn targets(&self, evidence: [&[Evidence]; 2]) -> Vec<Target> {
        let about = self.resolved();
        let mut messages: BTreeMap<PersonId, usize> = BTreeMap::new();
        about.iter().flat_map(|(_, people)| people).for_each(|id| *messages.entry(*id).or_default() += 1);
        let shares = evidence.map(|evidence| shares(evidence, &about, &messages));
        let mut states: BTreeMap<PersonId, ArcState> = BTreeMap::new();
        for (observation, people) in &about {
            for id in people {
                states.entry(*id).or_insert_with(|| ArcState::new(ArcKind::Harassment)).step(observation);
            }
        }
        let target = |(id, state): (PersonId, ArcState)| {
            let person = self.people.get(id)?;
            Some(Target {
                id,
                label: person.label.clone(),
                mentions: person.mentions,
                messages: messages[&id],
                first: person.first,
                last: person.last,
                state,
                shares: shares.each_ref().map(|share| share.get(&id).copied().unwrap_or(0.0)),
            })
        };
        let mut targets: Vec<Target> = states.into_iter().filter_map(target).collect();
        targets.retain(|one| one.shares.iter().any(|share| *share > 0.0) || one.state.score() >= ARC_SCORE_MIN);
        targets.sort_by(|a, b| {
            let [[a_first, a_second], [b_first, b_second]] = [a.shares, b.shares];
            b_first.total_cmp(&a_first).then(b_second.total_cmp(&a_second)).then(a.id.cmp(&b.id))
        });
        targets
    }

    /// The messages about those who are surely people and still known, in the order of time, by the ids they have now, without what is said of
    /// the whole history.
    fn resolved(&self) -> Vec<(Observation, Vec<PersonId>)> {
        let resolve = |(observation, people): &(Observation, Vec<PersonId>)| {
            let mut people: Vec<PersonId> = people.iter().map(|id| self.people.resolve(*id)).collect();
            people.retain(|id| self.people.is_human(*id));
            people.sort();
            people.dedup();
            let mut observation = *observation;
            (observation.score.harassment_case, observation.score.delusion_case) = (None, None);
            (observation, people)
        };
        let mut resolved: Vec<_> = self.about.iter().map(resolve).collect();
        sort_by_time(&mut resolved, |(observation, _)| observation);
        resolved
    }
}

/// Each person's part of the evidence.
fn shares(
    evidence: &[Evidence],
    about: &[(Observation, Vec<PersonId>)],
    messages: &BTreeMap<PersonId, usize>,
) -> HashMap<PersonId, f32> {
    let total: f32 = evidence.iter().map(|one| one.gain).sum();
    let mut shares = HashMap::new();
    for one in evidence {
        let people =
            about.iter().find(|(observation, _)| observation.at == one.at).map_or(&[][..], |(_, people)| people);
        let weight = |id: &PersonId| messages[id] as f32;
        let weights: f32 = people.iter().map(weight).sum();
        for id in people {
            *shares.entry(*id).or_default() += one.gain / total * weight(id) / weights;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::arc::Arcs;
    use crate::scoring::MessageScore;

    /// A user's message with this much of level 2.
    fn observation(message: usize, hostile: f32) -> Observation {
        let score = MessageScore {
            harassment: [1.0 - hostile, 0.0, hostile, 0.0],
            harassment_case: Some(0.9),
            ..MessageScore::NOTHING
        };
        Observation { at: MessageAt { session: message / 3, message: message % 3 }, time: None, from_user: true, score }
    }

    /// All of a history, and the user's own arc.
    fn heard(messages: &[(&str, f32)]) -> (Toward, ArcState) {
        let (mut toward, mut arc) = (Toward::new(), ArcState::new(ArcKind::Harassment));
        for (number, (text, hostile)) in messages.iter().enumerate() {
            let observation = observation(number, *hostile);
            toward.step(&observation, text);
            arc.step(&observation);
        }
        (toward, arc)
    }

    #[test]
    fn two_targets_are_two_states_and_the_evidence_is_divided() {
        let (toward, arc) = heard(&[
            ("My landlady Ottoline kept the deposit.", 0.0),
            ("I followed Ottoline home.", 0.95),
            ("My sister wants soup.", 0.0),
            ("She will be sorry, Ottoline will.", 0.95),
            ("And Barnaby lied to me.", 0.0),
            ("I have Barnaby's address.", 0.6),
        ]);
        let targets = toward.targets([arc.evidence(), &[]]);
        let labels: Vec<&str> = targets.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(labels[0], "My landlady");
        let of = |label: &str| targets.iter().find(|one| one.label == label).unwrap();
        assert!(of("Barnaby").shares[0] > 0.0 && of("Barnaby").shares[0] < of("My landlady").shares[0]);
        assert!(of("My landlady").state.score() > of("Barnaby").state.score());
        assert!(targets.iter().map(|one| one.shares[0]).sum::<f32>() <= 1.0 + 1e-5);
        assert_eq!(of("My landlady").mentions, 4);
    }

    #[test]
    fn an_open_case_is_nobodys_in_particular() {
        let (toward, arc) = heard(&[("My sister wants soup.", 0.0), ("My sister wants tea.", 0.0)]);
        assert!(arc.score() > 0.0);
        assert!(toward.targets([&[], &[]]).is_empty());
    }

    #[test]
    fn a_change_of_name_does_not_reset_the_arc() {
        let before =
            [("My landlady kept the deposit. I followed my landlady.", 0.95), ("I watched my landlady.", 0.95)];
        let renamed = [("I call her the Heron. I will find the heron.", 0.95), ("The heron sleeps at six.", 0.95)];
        let (toward, arc) = heard(&[&before[..], &renamed[..]].concat());
        let targets = toward.targets([arc.evidence(), &[]]);
        assert_eq!((targets.len(), targets[0].messages), (1, 4));
        let (short, _) = heard(&before);
        assert!(targets[0].state.score() > short.targets([arc.evidence(), &[]])[0].state.score());
    }

    /// What sessions of a message each come to, said on these days.
    fn arrived(sessions: &[(usize, i64, &str)]) -> Vec<Target> {
        let (mut toward, mut arcs) = (Toward::new(), Arcs::new());
        for &(session, day, text) in sessions {
            let at = MessageAt { session, message: 0 };
            let time = Timestamp::from_second(1_750_000_000 + day * 86_400).ok();
            let observation = Observation { at, time, ..observation(0, 0.95) };
            arcs.step(&observation);
            toward.step(&observation, text);
        }
        toward.targets([arcs.states()[0].evidence(), &[]])
    }

    #[test]
    fn a_late_session_counts_in_its_place_and_is_linked_when_it_arrives() {
        let (sister, landlady) = ((0, 0, "My sister lied."), (1, 9, "My landlady lied."));
        let named = (2, 4, "My sister will be sorry.");
        assert_eq!(arrived(&[sister, named, landlady]), arrived(&[sister, landlady, named]));
        let meant = (2, 4, "She will be sorry.");
        let messages = |sessions: &[(usize, i64, &str)]| {
            let targets = arrived(sessions);
            let of = |label: &str| targets.iter().find(|one| one.label == label).map(|one| one.messages);
            [of("My sister"), of("My landlady")]
        };
        assert_eq!(messages(&[sister, meant, landlady]), [Some(2), Some(1)]);
        assert_eq!(messages(&[sister, landlady, meant]), [Some(1), Some(2)], "who is in mind when it arrives");
    }

    #[test]
    fn of_very_many_messages_the_last_are_kept() {
        let mut toward = Toward::new();
        for number in 0..MESSAGES_KEPT + 10 {
            toward.step(&observation(number, 0.5), "My sister lied.");
        }
        assert_eq!(toward.about.len(), MESSAGES_KEPT);
        assert_eq!(toward.about[0].0.at, observation(10, 0.0).at);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn shares_are_shares_and_a_stream_is_a_batch(
            picks in prop::collection::vec((0usize..4, 0.0f32..1.0), 1..30),
        ) {
            let texts = ["My landlady lied.", "Ottoline and my sister lied.", "She lied.", "I like soup."];
            let messages: Vec<(&str, f32)> = picks.iter().map(|(text, hostile)| (texts[*text], *hostile)).collect();
            let (toward, arc) = heard(&messages);
            let targets = toward.targets([arc.evidence(), &[]]);
            let sum: f32 = targets.iter().map(|one| one.shares[0]).sum();
            prop_assert!((0.0..=1.0 + 1e-4).contains(&sum), "{sum}");
            // Put away and taken up again at every message.
            let mut stream = Toward::new();
            for (number, (text, hostile)) in messages.iter().enumerate() {
                stream = stream.clone();
                stream.step(&observation(number, *hostile), text);
                let _ = stream.targets([&[], &[]]);
            }
            prop_assert_eq!(stream, toward);
        }
    }
}
