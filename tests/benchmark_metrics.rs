//! Metrics against scikit-learn and SciPy (`tests/golden/metrics.py`), and against hand calculation.

#![cfg(feature = "benchmark")]

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use throughline::arc::ArcKind;
use throughline::benchmark::data::{Split, author, open};
use throughline::benchmark::detector::{keyword_matches, keywords};
use throughline::benchmark::metrics::agreement::{best_cuts, level_at, quadratic_kappa};
use throughline::benchmark::metrics::bootstrap::{Draws, SplitMix64, intervals};
use throughline::benchmark::metrics::calibration::{expected_calibration_error, reliability};
use throughline::benchmark::metrics::early::{Decision, erde, f_latency};
use throughline::benchmark::metrics::ranking::{self, Confusion, Scored};
use throughline::benchmark::metrics::risk::failures_allowed;
use throughline::benchmark::metrics::{Figure, Moments, mean, median};

/// Sums in another order.
const DELTA_MAX: f64 = 1e-9;

#[derive(Deserialize)]
struct Golden {
    ranking: Vec<Value>,
    kappa: Vec<Value>,
    spearman: Vec<Value>,
    early: Vec<Value>,
    skewness: Vec<Value>,
    splitmix64: Value,
    keywords: Value,
    /// With matches of harassment and of delusion.
    phrases: Vec<(String, usize, usize)>,
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn field<T: serde::de::DeserializeOwned>(case: &Value, name: &str) -> T {
    serde_json::from_value(case[name].clone()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn close(found: impl Into<Option<f64>>, case: &Value, name: &str) {
    let (found, expected): (Option<f64>, f64) = (found.into(), field(case, name));
    assert!(found.is_some_and(|found| (found - expected).abs() < DELTA_MAX), "{name}: {found:?}, not {expected}");
}

fn moments(values: &[f64]) -> Moments {
    let mut moments = Moments::default();
    values.iter().for_each(|value| moments.push(*value));
    moments
}

fn skewness(values: &[f64]) -> Option<f64> {
    moments(values).skewness()
}

#[test]
fn ranking_is_scikit_learns() {
    for case in &golden().ranking {
        let scored: Vec<Scored> = field(case, "scored");
        close(ranking::auroc(&scored), case, "auroc");
        close(ranking::average_precision(&scored), case, "average_precision");
        close(ranking::recall_at(&scored, 0.01), case, "recall_at_1");
        close(ranking::recall_at(&scored, 0.05), case, "recall_at_5");
        close(Confusion::at(&scored, 0.5).f1(), case, "f1_at_half");
        let (threshold, f1) = ranking::best_f1(&scored).unwrap();
        close(f1, case, "best_f1");
        assert_eq!(Confusion::at(&scored, threshold).f1(), Some(f1), "the threshold gives what it says");
        close(expected_calibration_error(&scored), case, "calibration_error");
        for (curve, name) in
            [(ranking::roc(&scored).unwrap(), "roc"), (ranking::precision_recall(&scored).unwrap(), "precision_recall")]
        {
            let expected: Vec<(f64, f64)> = field(case, name);
            // Recordings may leave out thresholds after full recall.
            assert!(curve.len() >= expected.len(), "{name}");
            for (found, expected) in curve.iter().zip(&expected) {
                let apart = (found.0 - expected.0).abs().max((found.1 - expected.1).abs());
                assert!(apart < DELTA_MAX, "{name}: {found:?}, not {expected:?}");
            }
        }
    }
}

#[test]
fn agreement_and_rank_correlation_are_scikit_learns_and_scipys() {
    let golden = golden();
    for case in &golden.kappa {
        close(quadratic_kappa(&field::<Vec<(usize, usize)>>(case, "pairs")), case, "kappa");
    }
    for case in &golden.spearman {
        close(ranking::spearman(&field::<Vec<(f64, f64)>>(case, "pairs")), case, "spearman");
    }
    for case in &golden.skewness {
        close(skewness(&field::<Vec<f64>>(case, "values")), case, "skewness");
    }
}

#[test]
fn early_detection_follows_the_papers() {
    for case in &golden().early {
        let decisions: Vec<(bool, Option<usize>)> = field(case, "decisions");
        let decisions: Vec<Decision> =
            decisions.into_iter().map(|(positive, read)| Decision { positive, read }).collect();
        close(erde(&decisions, 5.0), case, "erde_5");
        close(erde(&decisions, 50.0), case, "erde_50");
        close(f_latency(&decisions, field(case, "lengths_median")), case, "f_latency");
    }
}

/// Worked out on paper: two positives of four histories, so a false alarm costs ½.
#[test]
fn early_detection_by_hand() {
    let decision = |positive, read| Decision { positive, read };
    let four = [decision(true, Some(5)), decision(true, None), decision(false, Some(1)), decision(false, None)];
    // At k = o the cost is 1 − 1/2; the miss costs 1, the false alarm ½: (½ + 1 + ½) / 4.
    assert_eq!(erde(&four, 5.0), Some(0.5));
    // F1 = 2·1/(2·1 + 1 + 1) = ½. A history of 5 messages is of median length, so its penalty is ½.
    let found = f_latency(&four, 5.0).unwrap();
    assert!((found - 0.25).abs() < DELTA_MAX, "{found}");
    // An answer at the first message is free.
    assert_eq!(f_latency(&[decision(true, Some(1))], 5.0), Some(1.0));
    assert_eq!((erde(&four[2..], 5.0), f_latency(&four[2..], 5.0)), (None, None), "no positive");
    assert_eq!(f_latency(&four[1..2], 5.0), Some(0.0), "only a miss");
}

#[test]
fn figures_without_data_are_not_defined() {
    let (positives, negatives) = ([(0.4, true), (0.9, true)], [(0.4, false)]);
    for one_sided in [&positives[..], &negatives, &[]] {
        assert_eq!(ranking::auroc(one_sided), None);
        assert_eq!(ranking::recall_at(one_sided, 0.05), None);
        assert_eq!(ranking::roc(one_sided), None);
    }
    assert_eq!((ranking::average_precision(&negatives), ranking::best_f1(&negatives)), (None, None));
    assert_eq!(Confusion::at(&negatives, 0.0).f1(), None);
    assert_eq!((expected_calibration_error(&[]), reliability(&[])), (None, Vec::new()));
    assert_eq!((mean(&[]), median(&[]), skewness(&[]), skewness(&[0.5, 0.5])), (None, None, None, None));
    assert_eq!((Moments::default().mean(), moments(&[0.5, 1.0]).mean()), (None, Some(0.75)));
    assert_eq!(
        (ranking::pairs_ordered(&[]), ranking::spearman(&[]), ranking::spearman(&[(1.0, 2.0)])),
        (None, None, None)
    );
    assert_eq!((quadratic_kappa(&[]), quadratic_kappa(&[(1, 1), (1, 1)])), (None, None));
}

/// By hand: levels are apart, so that the lowest cut points between them agree wholly.
#[test]
fn cut_points_are_those_that_agree_best() {
    let apart = [(0, 0.1), (0, 0.2), (1, 0.3), (2, 0.6), (3, 0.9)];
    assert_eq!(best_cuts(&apart), Some(([0.25, 0.35, 0.65], 1.0)));
    assert_eq!([0.2, 0.25, 0.6, 3.0].map(|expected| level_at(expected, &[0.25, 0.35, 0.65])), [0, 1, 2, 3]);
    assert_eq!((best_cuts(&[]), best_cuts(&[(1, 1.0)])), (None, None));
}

proptest::proptest! {
    /// The table by which they are found says what the pairs themselves say, and no other triple of the grid more.
    #[test]
    fn no_other_cut_points_agree_better(
        pairs in proptest::collection::vec((0_usize..4, 0.0..3.0_f64), 2..60),
        other in proptest::collection::btree_set(1_usize..60, 3),
    ) {
        let at = |cuts: &[f64; 3]| {
            let levels: Vec<(usize, usize)> = pairs.iter().map(|&(label, x)| (label, level_at(x, cuts))).collect();
            quadratic_kappa(&levels)
        };
        let other: Vec<f64> = other.into_iter().map(|step| step as f64 / 20.0).collect();
        let other = at(&[other[0], other[1], other[2]]);
        if let Some((cuts, kappa)) = best_cuts(&pairs) {
            proptest::prop_assert!((at(&cuts).unwrap() - kappa).abs() < 1e-12);
            proptest::prop_assert!(other.is_none_or(|other| other <= kappa + 1e-12));
        } else {
            proptest::prop_assert!(other.is_none_or(|other| other < 1e-12));
        }
    }
}

#[test]
fn ties_count_half_and_medians_stand_in_the_middle() {
    assert_eq!(ranking::auroc(&[(0.5, true), (0.5, false)]), Some(0.5));
    assert_eq!(ranking::pairs_ordered(&[(0.9, 0.1), (0.5, 0.5), (0.1, 0.9), (0.3, 0.2)]), Some(0.625));
    assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (Some(2.0), Some(2.5)));
    assert_eq!(ranking::midranks(&[0.2, 0.1, 0.2]), [2.5, 1.0, 2.5]);
}

#[test]
fn random_numbers_are_the_reference_implementations() {
    let golden = golden().splitmix64;
    let mut random = SplitMix64::new(field::<String>(&golden, "seed").parse().unwrap());
    for expected in field::<Vec<String>>(&golden, "values") {
        assert_eq!(random.next_u64().to_string(), expected);
    }
    let mut seen = [0; 3];
    (0..3_000).for_each(|_| seen[random.below(3)] += 1);
    assert!(seen.iter().all(|count| (900..1_100).contains(count)), "{seen:?}");
}

/// A sum whose distribution is known: k of 40 clusters that each hold one 1 and one 0.
#[test]
fn intervals_draw_whole_clusters() {
    let clusters: Vec<Vec<usize>> = (0..40).map(|i| vec![2 * i, 2 * i + 1]).collect();
    let share = |drawn: &[usize]| drawn.iter().filter(|i| **i % 2 == 0).count() as f64 / drawn.len() as f64;
    let draws = Draws { samples: 400, seed: 1 };
    // Members of a cluster come and go together, so their share never moves…
    let figures = intervals(&clusters, draws, &|drawn| vec![("share", Some(share(drawn))), ("none", None)]);
    assert_eq!(figures.get("share"), Figure { value: Some(0.5), low: Some(0.5), high: Some(0.5) });
    assert_eq!(figures.get("none"), Figure::default());
    // … and drawn one by one it does: 80 draws of a half have a standard error of 0.056.
    let single: Vec<Vec<usize>> = (0..80).map(|i| vec![i]).collect();
    let alone = |seed| intervals(&single, Draws { seed, ..draws }, &|drawn| vec![("share", Some(share(drawn)))]);
    let figure = alone(1).get("share");
    let (low, high) = (figure.low.unwrap(), figure.high.unwrap());
    assert!((0.36..0.43).contains(&low) && (0.57..0.64).contains(&high), "{low} {high}");
    assert_eq!(alone(1), alone(1), "a seed gives the same draws");
    assert_ne!(alone(1), alone(2));
    let none = intervals(&single, Draws { samples: 0, seed: 1 }, &|drawn| vec![("share", Some(share(drawn)))]);
    assert_eq!(none.get("share"), Figure { value: Some(0.5), low: None, high: None });
}

/// The lexicon is a port: the same counts as the Python it was ported from.
#[test]
fn keywords_are_those_of_the_training_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/arcs/hale.txt");
    let set = open(&[file], Split::All, None).unwrap().sets.remove(0);
    assert_eq!(set.targets, author::targets());
    let Golden { keywords: golden, phrases, .. } = golden();
    for (phrase, harassment, delusion) in phrases {
        let found = ArcKind::ALL.map(|kind| keyword_matches(kind, &phrase));
        assert_eq!(found, [harassment, delusion], "{phrase}");
    }
    assert_eq!(golden.as_object().unwrap().len(), set.examples.len());
    for (example, [harassment, delusion]) in set.examples.iter().zip(keywords(&set).whole) {
        let case = &golden[&example.history.user_id];
        close(harassment, case, "harassment");
        close(delusion, case, "delusion");
    }
}

/// Sums of binomial probabilities in exact fractions; those of 0 by hand, 0.95^58 = 0.0510 and 0.95^59 = 0.0485.
#[test]
fn failures_are_allowed_up_to_the_clopper_pearson_bound() {
    for (trials, rate, allowed) in [
        (10, 0.5, Some(1)),
        (58, 0.05, None),
        (59, 0.05, Some(0)),
        (400, 0.05, Some(12)),
        (1_000, 0.01, Some(4)),
        (10_000, 0.005, Some(38)),
        (0, 0.1, None),
    ] {
        assert_eq!(failures_allowed(trials, rate, 0.95), allowed, "{trials} {rate}");
    }
    // Where the first probabilities are below every number: the normal quantile, n p − 1.6449 √(n p (1 − p)).
    let many = failures_allowed(1_000_000, 0.4, 0.95).unwrap() as f64;
    assert!((many - (400_000.0 - 1.6449 * 240_000f64.sqrt())).abs() < 2.0, "{many}");
}
