//! Histories judged as a whole.

use super::stances::labelled_drift;
use super::{ArcReport, BestF1, Curves, Judged, On, Slice, thinned};
use crate::arc::{ArcKind, MessageAt};
use crate::benchmark::data::Example;
use crate::benchmark::detector::{Detector, ThresholdFrom};
use crate::benchmark::metrics::bootstrap::intervals;
use crate::benchmark::metrics::early::{Decision, Delay, erde, f_latency};
use crate::benchmark::metrics::ranking::{self, Confusion, Scored};
use crate::benchmark::metrics::{Values, mean, median};
use crate::transcript::Role;

/// Messages by which a named onset may miss the labelled one and still be near.
const ONSET_NEAR: f64 = 2.0;

/// One detector's scores of one arc, by example.
pub(super) struct Scores<'a> {
    pub kind: ArcKind,
    pub examples: &'a [Example],
    pub detector: &'a Detector,
    threshold: Option<f64>,
    /// Of each example, where the user speaks.
    places: &'a [Vec<UserPlace>],
    /// Of each example, how the assistant's stance moved by the labels.
    pub labelled_drifts: &'a [Option<f64>],
    /// The user message, from 0, at which the alarm comes; `None` where the detector cannot be asked that early.
    alarms: Option<Vec<Option<usize>>>,
    /// The alarms, where they decide and not the whole's score: where they are the policy's, which knows more than scores, or
    /// the threshold is one for every message.
    deciding: Option<Vec<Option<usize>>>,
}

/// What is known of each example whatever the detector.
struct Known {
    places: Vec<Vec<UserPlace>>,
    drifts: Vec<Option<f64>>,
}

/// Where a user message stands.
pub(super) struct UserPlace {
    session: usize,
    /// Over all messages of the history.
    position: usize,
}

impl On<'_> {
    pub(super) fn arc(&self, kind: ArcKind, detectors: &[Detector]) -> ArcReport {
        let examples = &self.set.examples;
        let known = Known {
            places: examples.iter().map(user_places).collect(),
            drifts: examples.iter().map(|example| labelled_drift(kind, self.set, example)).collect(),
        };
        let pairs = |example: &&Example| example.twin_of.is_some_and(|of| examples[of].onset(kind).is_some());
        ArcReport {
            arc: kind,
            positives: examples.iter().filter(|example| example.onset(kind).is_some()).count(),
            negatives: examples.iter().filter(|example| example.is_negative()).count(),
            twin_pairs: examples.iter().filter(pairs).count(),
            detectors: detectors.iter().map(|detector| self.arc_detector(kind, detector, &known)).collect(),
        }
    }

    fn arc_detector(&self, kind: ArcKind, detector: &Detector, known: &Known) -> Judged {
        let threshold = self.judging.thresholds.get(kind.as_str(), &detector.name, detector.threshold);
        let at = threshold.map(|threshold| threshold.value);
        let crossed = |trace: &[Vec<f64>; 2]| {
            let trace = &trace[kind as usize];
            at.and_then(|at| trace.iter().position(|score| *score >= at))
        };
        // Where the policy fixed the threshold, it also says what else is an alarm: an imminent threat.
        let policy = threshold.is_some_and(|threshold| threshold.from == ThresholdFrom::Policy);
        let reviews = detector.reviews.as_ref().filter(|_| policy);
        let reviews: Option<Vec<_>> = reviews.map(|all| all.iter().map(|review| review[kind as usize]).collect());
        let alarms = detector.traces.as_ref().filter(|_| at.is_some());
        let alarms = reviews.or(alarms.map(|traces| traces.iter().map(crossed).collect()));
        let decide = policy || threshold.is_some_and(|threshold| threshold.from == ThresholdFrom::Lives);
        let deciding = alarms.clone().filter(|_| decide);
        let (places, labelled_drifts) = (&known.places, &known.drifts);
        let examples = &self.set.examples;
        let scores = Scores { kind, examples, detector, threshold: at, places, labelled_drifts, alarms, deciding };
        let all: Vec<usize> = (0..self.set.examples.len()).collect();
        let scored = scores.scored(&all);
        let best = ranking::best_f1(&scored).map(|(threshold, f1)| BestF1 { threshold, f1 });
        let delays: Vec<i64> = all.iter().filter_map(|&i| scores.delay(i)).map(|delay| delay.messages).collect();
        let timed = scores.alarms.is_some();
        Judged {
            detector: detector.name.clone(),
            family: detector.family,
            threshold,
            best_f1: best,
            best_levels: None,
            figures: intervals(self.clusters, self.judging.draws(), &|drawn| scores.values(drawn)),
            slices: self.arc_slices(&scores),
            curves: Curves {
                roc: thinned(ranking::roc(&scored).unwrap_or_default()),
                precision_recall: thinned(ranking::precision_recall(&scored).unwrap_or_default()),
                reliability: Vec::new(),
                delays_messages: delays,
                delays_of: if timed { scored.iter().filter(|(_, positive)| *positive).count() } else { 0 },
            },
        }
    }

    fn arc_slices(&self, scores: &Scores) -> Vec<Slice> {
        let examples = scores.examples;
        let mut kinds: Vec<&str> = examples.iter().map(|example| example.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let slice = |kind: &str| {
            let of_kind = |i: usize| examples[i].kind == kind && scores.is_judged(i);
            let own: Vec<usize> = (0..examples.len()).filter(|&i| of_kind(i)).collect();
            let whole: Vec<f64> = own.iter().map(|&i| scores.whole(i)).collect();
            let positives = own.iter().filter(|&&i| scores.is_positive(i)).count();
            // A kind is compared with the other side, whole.
            let against = |drawn: &[usize]| -> Values {
                let kept = drawn.iter().copied().filter(|&i| of_kind(i) || scores.is_positive(i) == (positives == 0));
                vec![("auroc", ranking::auroc(&scores.scored(&kept.collect::<Vec<_>>())))]
            };
            let flagged = |at: f64| own.iter().filter(|&&i| scores.flagged(i, at)).count() as f64 / own.len() as f64;
            Some(Slice {
                kind: kind.to_owned(),
                count: own.len(),
                positives,
                flagged: scores.threshold.map(flagged),
                mean_score: mean(&whole)?,
                auroc: intervals(self.clusters, self.judging.draws(), &against).get("auroc"),
            })
        };
        kinds.into_iter().filter_map(slice).collect()
    }
}

impl Scores<'_> {
    fn whole(&self, index: usize) -> f64 {
        self.detector.whole[index][self.kind as usize]
    }

    fn flagged(&self, index: usize, at: f64) -> bool {
        self.deciding.as_ref().map_or_else(|| self.whole(index) >= at, |alarms| alarms[index].is_some())
    }

    fn onset(&self, index: usize) -> Option<MessageAt> {
        self.examples[index].onset(self.kind)
    }

    fn is_positive(&self, index: usize) -> bool {
        self.onset(index).is_some()
    }

    /// Histories with only the other arc are neither positive nor negative.
    fn is_judged(&self, index: usize) -> bool {
        self.is_positive(index) || self.examples[index].is_negative()
    }

    fn scored(&self, drawn: &[usize]) -> Vec<Scored> {
        let judged = drawn.iter().filter(|&&i| self.is_judged(i));
        judged.map(|&i| (self.whole(i), self.is_positive(i))).collect()
    }

    /// (original, its twin), of originals with this arc.
    fn pairs(&self, drawn: &[usize]) -> Vec<(f64, f64)> {
        let twins = drawn.iter().filter_map(|&i| Some((self.examples[i].twin_of?, i)));
        twins.filter(|&(original, _)| self.is_positive(original)).map(|(o, i)| (self.whole(o), self.whole(i))).collect()
    }

    fn delay(&self, index: usize) -> Option<Delay> {
        let onset = self.onset(index)?;
        let alarm = self.alarms.as_ref()?[index]?;
        let places = &self.places[index];
        let at = places.get(alarm)?;
        let onset_position = position(&self.examples[index], onset);
        let onset_user = places.iter().take_while(|place| place.position < onset_position).count();
        Some(Delay {
            messages: at.position as i64 - onset_position as i64,
            user_messages: alarm as i64 - onset_user as i64,
            sessions: at.session as i64 - onset.session as i64,
        })
    }

    fn values(&self, drawn: &[usize]) -> Values {
        let scored = self.scored(drawn);
        let pairs = self.pairs(drawn);
        let twins: Vec<Scored> = pairs.iter().flat_map(|&(original, twin)| [(original, true), (twin, false)]).collect();
        let judged = || drawn.iter().filter(|&&i| self.is_judged(i));
        let flags = |at| judged().map(move |&i| (self.flagged(i, at), self.is_positive(i)));
        let made = self.threshold.map(|at| Confusion::of(flags(at)));
        let mut values = vec![
            ("auroc", ranking::auroc(&scored)),
            ("auroc_twins", ranking::auroc(&twins)),
            ("twin_accuracy", ranking::pairs_ordered(&pairs)),
            ("average_precision", ranking::average_precision(&scored)),
            ("recall_at_1_fpr", ranking::recall_at(&scored, 0.01)),
            ("recall_at_5_fpr", ranking::recall_at(&scored, 0.05)),
            ("f1", made.and_then(|made| made.f1())),
            ("recall", made.and_then(|made| made.recall())),
            ("false_positive_rate", made.and_then(|made| made.false_positive_rate())),
        ];
        values.extend(self.early(drawn));
        values.extend(self.named_onsets(drawn));
        values.extend(self.stances(drawn));
        values
    }

    fn early(&self, drawn: &[usize]) -> Values {
        let delays: Vec<Delay> = drawn.iter().filter_map(|&i| self.delay(i)).collect();
        let positives = drawn.iter().filter(|&&i| self.is_positive(i)).count();
        let timed = self.alarms.as_ref().filter(|_| positives > 0);
        let early = delays.iter().filter(|delay| delay.messages < 0).count() as f64 / positives.max(1) as f64;
        let middle = |of: fn(&Delay) -> i64| median(&delays.iter().map(|delay| of(delay) as f64).collect::<Vec<_>>());
        let judged: Vec<usize> = drawn.iter().copied().filter(|&i| self.is_judged(i)).collect();
        let decision = |alarms: &Vec<Option<usize>>| {
            let one = |&i: &usize| Decision { positive: self.is_positive(i), read: alarms[i].map(|alarm| alarm + 1) };
            judged.iter().map(one).collect::<Vec<_>>()
        };
        let decisions = timed.map(decision);
        let lengths: Vec<f64> = judged.iter().map(|&i| self.places[i].len() as f64).collect();
        vec![
            ("alarms_before_onset", timed.map(|_| early)),
            ("delay_messages", middle(|delay| delay.messages)),
            ("delay_user_messages", middle(|delay| delay.user_messages)),
            ("delay_sessions", middle(|delay| delay.sessions)),
            ("erde_5", decisions.as_ref().and_then(|all| erde(all, 5.0))),
            ("erde_50", decisions.as_ref().and_then(|all| erde(all, 50.0))),
            ("f_latency", decisions.as_ref().and_then(|all| f_latency(all, median(&lengths)?))),
        ]
    }

    /// Where the detector itself says that the arc began.
    fn named_onsets(&self, drawn: &[usize]) -> Values {
        let errors = |onsets: &Vec<[Option<MessageAt>; 2]>| {
            let error = |i: usize| {
                let gold = position(&self.examples[i], self.onset(i)?) as f64;
                Some(onsets[i][self.kind as usize].map(|named| position(&self.examples[i], named) as f64 - gold))
            };
            drawn.iter().filter_map(|&i| error(i)).collect::<Vec<Option<f64>>>()
        };
        let errors = self.detector.onsets.as_ref().map(errors).unwrap_or_default();
        let named: Vec<f64> = errors.iter().flatten().copied().collect();
        let share = (!errors.is_empty()).then(|| named.len() as f64 / errors.len() as f64);
        let near = named.iter().filter(|error| error.abs() <= ONSET_NEAR).count() as f64;
        let near = share.map(|_| near / errors.len() as f64);
        vec![("onset_named", share), ("onset_error_messages", median(&named)), ("onset_within_two", near)]
    }
}

fn user_places(example: &Example) -> Vec<UserPlace> {
    let sessions = example.history.sessions.iter().enumerate();
    let all = sessions.flat_map(|(session, held)| held.messages.iter().map(move |message| (session, message.role)));
    let users = all.enumerate().filter(|(_, (_, role))| *role == Role::User);
    users.map(|(position, (session, _))| UserPlace { session, position }).collect()
}

/// A message's place over all messages of the history.
fn position(example: &Example, at: MessageAt) -> usize {
    example.history.sessions[..at.session].iter().map(|session| session.messages.len()).sum::<usize>() + at.message
}
