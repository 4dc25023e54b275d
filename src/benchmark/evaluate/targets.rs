//! Labels of messages, and of records as a whole.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{BestF1, BestLevels, Curves, Judged, On, Slice, TargetReport, thinned};
use crate::arc::{ArcKind, MessageAt};
use crate::benchmark::data::{Example, Label, Subject, Target, Truth};
use crate::benchmark::detector::{Detector, Family, ScoredMessage};
use crate::benchmark::metrics::agreement::{Cuts, best_cuts, level_at, quadratic_kappa};
use crate::benchmark::metrics::bootstrap::intervals;
use crate::benchmark::metrics::calibration::{expected_calibration_error, reliability};
use crate::benchmark::metrics::ranking::{self, Confusion, Scored};
use crate::benchmark::metrics::{Values, mean};
use crate::scoring::{at_least, expected_level};
use crate::transcript::Role;

/// The threshold of a probability where no other is given.
const HALF: f64 = 0.5;

/// A label and what the detector says.
struct Pair {
    at: Option<MessageAt>,
    truth: Truth,
    /// P(level ≥ level_min) of a message, or a history's score.
    score: f64,
    /// Of a message, in levels from 0.
    expected: f64,
}

/// Of messages at one place of two minimal pairs whose labelled levels differ: how many pairs the expected levels order
/// as the labels do, half of one where they are equal, of how many.
#[derive(Debug, Clone, Copy, Default)]
struct Ordered {
    rightly: f64,
    pairs: usize,
}

/// One detector's answers to one target, by example.
struct Answers<'a> {
    target: &'a Target,
    pairs: Vec<Vec<Pair>>,
    ordered: Vec<Ordered>,
    threshold: Option<f64>,
    /// Where levels begin, by other data.
    cuts: Option<Cuts>,
    /// Scores are a message's probabilities, and there are expected levels.
    is_probability: bool,
}

impl On<'_> {
    pub(super) fn target(&self, index: usize, detectors: &[Detector]) -> TargetReport {
        let target = &self.set.targets[index];
        let labels = self.set.examples.iter().flat_map(|example| &example.labels).filter(|one| one.target == index);
        let truths: Vec<Option<bool>> = labels.map(|label| is_positive(target, label.truth)).collect();
        let numbers = truths.iter().any(Option::is_none);
        TargetReport {
            target: target.name.clone(),
            subject: target.subject,
            level_min: target.level_min,
            labelled: truths.len(),
            positives: (!numbers).then(|| truths.iter().flatten().filter(|positive| **positive).count()),
            detectors: detectors.iter().filter_map(|detector| self.target_detector(index, detector)).collect(),
        }
    }

    fn target_detector(&self, index: usize, detector: &Detector) -> Option<Judged> {
        let target = &self.set.targets[index];
        let is_probability = target.subject.arc().is_none() && detector.messages.is_some();
        let policy = if is_probability { Some(HALF) } else { detector.threshold };
        let threshold = self.judging.thresholds.get(&target.name, &detector.name, policy);
        let at = threshold.map(|threshold| threshold.value);
        let pairs = self.pairs(index, detector)?;
        let ordered = self.ordered(target, &pairs);
        let cuts = self.judging.thresholds.cuts(&target.name, &detector.name);
        let answers = Answers { target, pairs, ordered, threshold: at, cuts, is_probability };
        let all: Vec<usize> = (0..answers.pairs.len()).collect();
        let scored = answers.scored(&all);
        Some(Judged {
            detector: detector.name.clone(),
            family: detector.family,
            threshold: threshold.filter(|_| !scored.is_empty()),
            best_f1: ranking::best_f1(&scored).map(|(threshold, f1)| BestF1 { threshold, f1 }),
            best_levels: best_cuts(&answers.levels(&all)).map(|(cuts, kappa)| BestLevels { cuts, kappa }),
            figures: intervals(self.clusters, self.judging.draws(), &|drawn| answers.values(drawn)),
            slices: self.target_slices(&answers),
            curves: Curves {
                roc: thinned(ranking::roc(&scored).unwrap_or_default()),
                precision_recall: thinned(ranking::precision_recall(&scored).unwrap_or_default()),
                reliability: if is_probability { reliability(&scored) } else { Vec::new() },
                ..Curves::default()
            },
        })
    }

    /// Each example's labels with the detector's answers; `None` where it has no answer to such.
    fn pairs(&self, index: usize, detector: &Detector) -> Option<Vec<Vec<Pair>>> {
        let target = &self.set.targets[index];
        let whole = target.subject.arc().or_else(|| self.stand_in(target, detector));
        if whole.is_none() && detector.messages.is_none() {
            return None;
        }
        let mut out = Vec::with_capacity(self.set.examples.len());
        for (place, example) in self.set.examples.iter().enumerate() {
            let messages = detector.messages.as_ref().map(|messages| messages[place].as_slice()).unwrap_or_default();
            let by_place: BTreeMap<MessageAt, &ScoredMessage> = messages.iter().map(|one| (one.at, one)).collect();
            let labels = example.labels.iter().filter(|label| label.target == index);
            let pair = |label: &Label| {
                let (score, expected) = match (whole, label.at) {
                    (Some(arc), _) => (detector.whole[place][arc as usize], 0.0),
                    (None, Some(at)) => answer(target, by_place.get(&at)?),
                    (None, None) => return None,
                };
                Some(Pair { at: label.at, truth: label.truth, score, expected })
            };
            out.push(labels.filter_map(pair).collect());
        }
        Some(out)
    }

    /// Each minimal pair's messages against those of the members of its set that come after it.
    fn ordered(&self, target: &Target, pairs: &[Vec<Pair>]) -> Vec<Ordered> {
        let examples = &self.set.examples;
        let later = |place: usize| {
            let together = move |&other: &usize| examples[other].cluster == examples[place].cluster;
            (place + 1..examples.len()).take_while(together)
        };
        let own = |place: usize| {
            let mut ordered = Ordered::default();
            let others: Vec<&Pair> = later(place).flat_map(|other| &pairs[other]).collect();
            for (a, b) in pairs[place].iter().flat_map(|a| others.iter().map(move |b| (a, *b))) {
                if let (Truth::Level(x), Truth::Level(y)) = (a.truth, b.truth)
                    && a.at == b.at
                    && x != y
                {
                    ordered.pairs += 1;
                    let (low, high) = if x < y { (a, b) } else { (b, a) };
                    ordered.rightly += match low.expected.total_cmp(&high.expected) {
                        Ordering::Less => 1.0,
                        Ordering::Equal => 0.5,
                        Ordering::Greater => 0.0,
                    };
                }
            }
            ordered
        };
        // Scores that stand for a message have no level.
        let has_levels = target.subject.arc().is_none();
        (0..examples.len())
            .map(|place| if has_levels && examples[place].is_contrast() { own(place) } else { Ordered::default() })
            .collect()
    }

    /// The arc whose score of a whole history stands for its message, where a detector has no other and
    /// the history is a single message of the user.
    fn stand_in(&self, target: &Target, detector: &Detector) -> Option<ArcKind> {
        let words = matches!(detector.family, Family::Keywords | Family::File);
        let single = |example: &Example| {
            let messages = example.history.sessions.iter().flat_map(|session| &session.messages);
            messages.filter(|message| message.role == Role::User).count() == 1
        };
        target.subject.scale().filter(|_| words && self.set.examples.iter().all(single))
    }

    fn target_slices(&self, answers: &Answers) -> Vec<Slice> {
        let mut kinds: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, example) in self.set.examples.iter().enumerate() {
            kinds.entry(&example.kind).or_default().push(index);
        }
        let slice = |(kind, own): (&str, Vec<usize>)| {
            let scored = answers.scored(&own);
            let scores: Vec<f64> = scored.iter().map(|(score, _)| *score).collect();
            let positives = scored.iter().filter(|(_, positive)| *positive).count();
            // A kind of one side alone is compared with the other side, whole.
            let one_sided = positives == 0 || positives == scored.len();
            let compared = |drawn: &[usize]| -> Values {
                let is_own = |i: usize| self.set.examples[i].kind == kind;
                let (own, others): (Vec<usize>, Vec<usize>) = drawn.iter().partition(|&&i| is_own(i));
                let mut scored = answers.scored(&own);
                if one_sided {
                    let other_side = |(_, positive): &Scored| *positive == (positives == 0);
                    scored.extend(answers.scored(&others).into_iter().filter(other_side));
                }
                vec![("auroc", ranking::auroc(&scored))]
            };
            let flagged = |at: f64| scores.iter().filter(|score| **score >= at).count() as f64 / scores.len() as f64;
            Some(Slice {
                kind: kind.to_owned(),
                count: scores.len(),
                positives,
                flagged: answers.threshold.map(flagged),
                mean_score: mean(&scores)?,
                auroc: intervals(self.clusters, self.judging.draws(), &compared).get("auroc"),
            })
        };
        if kinds.len() < 2 { Vec::new() } else { kinds.into_iter().filter_map(slice).collect() }
    }
}

/// The score of a message, and its expected level from 0.
fn answer(target: &Target, message: &ScoredMessage) -> (f64, f64) {
    let levels = match target.subject {
        Subject::Harassment => &message.score.harassment,
        Subject::Delusion => &message.score.delusion,
        Subject::Stance => &message.score.stance,
        _ => return (f64::from(message.score.imminent), f64::from(message.score.imminent)),
    };
    (f64::from(at_least(levels, usize::from(target.level_min))), f64::from(expected_level(levels)))
}

/// The level from 0, of scales that do not begin there.
fn rung(target: &Target, level: i8) -> usize {
    let from = if target.subject == Subject::Stance { -1 } else { 0 };
    usize::try_from(level - from).unwrap_or(0)
}

fn is_positive(target: &Target, truth: Truth) -> Option<bool> {
    match truth {
        Truth::Level(level) => Some(rung(target, level) >= usize::from(target.level_min)),
        Truth::Is(positive) => Some(positive),
        Truth::Number(_) => None,
    }
}

impl Answers<'_> {
    fn drawn<'a>(&'a self, drawn: &'a [usize]) -> impl Iterator<Item = &'a Pair> {
        drawn.iter().flat_map(|&example| &self.pairs[example])
    }

    /// The share of minimal pairs ordered as their labels are.
    fn pairs_ordered(&self, drawn: &[usize]) -> Option<f64> {
        let drawn: Vec<Ordered> = drawn.iter().map(|&example| self.ordered[example]).collect();
        let pairs: usize = drawn.iter().map(|one| one.pairs).sum();
        let rightly: f64 = drawn.iter().map(|one| one.rightly).sum();
        (self.is_probability && pairs > 0).then(|| rightly / pairs as f64)
    }

    fn scored(&self, drawn: &[usize]) -> Vec<Scored> {
        self.drawn(drawn).filter_map(|pair| Some((pair.score, is_positive(self.target, pair.truth)?))).collect()
    }

    /// Labelled levels and expected ones, both from 0, where the detector gives such.
    fn levels(&self, drawn: &[usize]) -> Vec<(usize, f64)> {
        let level = |pair: &Pair| match pair.truth {
            Truth::Level(level) if self.is_probability => Some((rung(self.target, level), pair.expected)),
            _ => None,
        };
        self.drawn(drawn).filter_map(level).collect()
    }

    fn values(&self, drawn: &[usize]) -> Values {
        let number = |pair: &Pair| match pair.truth {
            Truth::Number(number) => Some((if self.is_probability { pair.expected } else { pair.score }, number)),
            _ => None,
        };
        let numbers: Vec<(f64, f64)> = self.drawn(drawn).filter_map(number).collect();
        if !numbers.is_empty() {
            return vec![("rank_correlation", ranking::spearman(&numbers))];
        }
        let scored = self.scored(drawn);
        let levels = self.levels(drawn);
        let kappa = |level: &dyn Fn(f64) -> usize| {
            let pairs: Vec<(usize, usize)> = levels.iter().map(|&(label, expected)| (label, level(expected))).collect();
            quadratic_kappa(&pairs)
        };
        let made = self.threshold.map(|at| Confusion::at(&scored, at));
        vec![
            ("auroc", ranking::auroc(&scored)),
            ("average_precision", ranking::average_precision(&scored)),
            ("f1", made.and_then(|made| made.f1())),
            ("recall", made.and_then(|made| made.recall())),
            ("false_positive_rate", made.and_then(|made| made.false_positive_rate())),
            ("kappa", kappa(&|expected| expected.round_ties_even() as usize)),
            ("kappa_at_cuts", self.cuts.and_then(|cuts| kappa(&|expected| level_at(expected, &cuts)))),
            ("pairs_ordered", self.pairs_ordered(drawn)),
            ("calibration_error", expected_calibration_error(&scored).filter(|_| self.is_probability)),
        ]
    }
}
