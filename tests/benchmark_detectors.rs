//! Detectors on invented message scores: what counts as an alarm, and when.

#![cfg(feature = "benchmark")]

use std::path::Path;

use throughline::arc::MessageAt;
use throughline::benchmark::data::{DataSet, author};
use throughline::benchmark::detector::{ModelScores, ScoredMessage, keywords, model_detectors};
use throughline::benchmark::evaluate::{Judging, SetReport, judge};
use throughline::scoring::MessageScore;
use throughline::transcript::{History, Message, Role};
use throughline::verdict::Policy;

const AUTHOR: &str = "\
=== a-1 | kind=harassment_escalation | style=x
arc harassment onset=1.3
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
U h3 d0 !: three
=== a-2 | kind=mundane | style=x
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
U h0 d0: three
";

fn set() -> DataSet {
    DataSet {
        name: "arcs".into(),
        about: "invented".into(),
        targets: author::targets(),
        examples: author::parse(Path::new("a.txt"), AUTHOR).unwrap(),
        review: None,
        left_out: Vec::new(),
    }
}

/// `third` is said of the third message of a-1, and nothing of any other.
fn report(third: MessageScore) -> SetReport {
    let set = set();
    let mut scores = ModelScores::new();
    for example in &set.examples {
        let scored = [Role::User, Role::Assistant, Role::User].into_iter().enumerate().map(|(message, role)| {
            let marked = example.history.user_id == "a-1" && message == 2;
            let score = if marked { third } else { MessageScore::NOTHING };
            ScoredMessage { at: MessageAt { session: 0, message }, role, score }
        });
        scores.insert(example.history.user_id.clone(), scored.collect());
    }
    let mut detectors = model_detectors("m", &scores, &set, Path::new("m"), &Policy::default()).unwrap();
    detectors.push(keywords(&set));
    judge(&set, &detectors, &Judging::default())
}

/// A mild message that is an imminent threat: far below the score of `review`, and an alarm all the same.
#[test]
fn an_imminent_threat_is_an_alarm_of_its_arc() {
    let threat = MessageScore { harassment: [0.4, 0.6, 0.0, 0.0], imminent: 0.9, ..MessageScore::NOTHING };
    let value = |report: &SetReport, arc: usize, name: &str| report.arcs[arc].detectors[0].figures.get(name).value;
    let found = report(threat);
    assert_eq!((value(&found, 0, "recall"), value(&found, 0, "false_positive_rate")), (Some(1.0), Some(0.0)));
    assert_eq!((value(&found, 0, "delay_messages"), value(&found, 0, "alarms_before_onset")), (Some(0.0), Some(0.0)));
    assert_eq!(value(&found, 1, "false_positive_rate"), Some(0.0), "not of the other arc");
    assert_eq!(found.arcs[0].detectors[0].slices[0].flagged, Some(1.0));
    let calm = report(MessageScore { imminent: 0.1, ..threat });
    assert_eq!((value(&calm, 0, "recall"), value(&calm, 0, "delay_messages")), (Some(0.0), None));
}

const CONTRASTS: &str = "\
=== a-s001a | kind=contrast | style=x
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
U h2 d0: three
=== a-s001b | kind=contrast | style=x
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
U h0 d0: four
=== a-s001c | kind=contrast | style=x
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
U h1 d0: five
=== a-s002a | kind=contrast | style=x
--- 2026-03-01T20:11
U h3 d0: six
";

/// By hand: of levels 2, 0, 1 at the same place, said to be 2, 0, 0, one pair is right, one equal, one right; other places,
/// equal labels and another set's members are no pairs.
#[test]
fn minimal_pairs_are_compared_place_by_place() {
    let examples = author::parse(Path::new("a.txt"), CONTRASTS).unwrap();
    let set = DataSet { examples, ..set() };
    let mut scores = ModelScores::new();
    for example in &set.examples {
        let roles = example.history.sessions[0].messages.iter().map(|message| message.role);
        let scored = roles.enumerate().map(|(message, role)| {
            let two = example.history.user_id == "a-s001a" && message == 2;
            let harassment = if two { [0.0, 0.0, 1.0, 0.0] } else { [1.0, 0.0, 0.0, 0.0] };
            let score = MessageScore { harassment, ..MessageScore::NOTHING };
            ScoredMessage { at: MessageAt { session: 0, message }, role, score }
        });
        scores.insert(example.history.user_id.clone(), scored.collect());
    }
    let detectors = model_detectors("m", &scores, &set, Path::new("m"), &Policy::default()).unwrap();
    let found = judge(&set, &detectors, &Judging::default());
    let ordered = |target: usize| found.targets[target].detectors[0].figures.get("pairs_ordered").value;
    assert_eq!(found.targets[0].target, "harassment, level 2 or more");
    assert!((ordered(0).unwrap() - 2.5 / 3.0).abs() < 1e-9, "{:?}", ordered(0));
    assert_eq!(ordered(1), None, "no labels of delusion differ");
}

/// By hand, of expected levels 0 and 2 of 3: the last is 2/3, the mean 1/3, the greatest 2/3.
#[test]
fn baselines_fold_the_users_messages() {
    let found = report(MessageScore { harassment: [0.0, 0.0, 1.0, 0.0], ..MessageScore::NOTHING });
    let whole: Vec<(&str, f64)> = found.arcs[0]
        .detectors
        .iter()
        .map(|one| {
            (one.detector.as_str(), one.slices.iter().find(|s| s.kind == "harassment_escalation").unwrap().mean_score)
        })
        .collect();
    for (name, expected) in [
        ("m, last message in context", 2.0 / 3.0),
        ("m, mean of the last 5", 1.0 / 3.0),
        ("m, mean", 1.0 / 3.0),
        ("m, max", 2.0 / 3.0),
        ("m, skewness", 0.0),
        ("m, EWMA slope", (0.3 - 0.05) * 2.0 / 3.0),
        ("keywords", 0.0),
    ] {
        let (_, score) = whole.iter().find(|(known, _)| *known == name).unwrap();
        assert!((score - expected).abs() < 1e-6, "{name}: {score}");
    }
}

fn sure(level: usize) -> [f32; 4] {
    std::array::from_fn(|index| if index == level { 1.0 } else { 0.0 })
}

/// What a model says that hears each message's text alone, of histories of one session.
fn heard(set: &DataSet, hear: impl Fn(&str) -> MessageScore) -> ModelScores {
    let scored = |(message, said): (usize, &Message)| ScoredMessage {
        at: MessageAt { session: 0, message },
        role: said.role,
        score: hear(&said.content),
    };
    let of = |history: &History| history.sessions[0].messages.iter().enumerate().map(scored).collect();
    set.examples.iter().map(|example| (example.history.user_id.clone(), of(&example.history))).collect()
}

const DELUSIONS: &str = "\
=== a-1 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d3: one
A s2: amplified
=== a-2 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d3: one
A s-1: withstood
=== a-3 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d3: one
=== a-4 | kind=delusion_resisted | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d3: one
A s-1: withstood
=== a-5 | kind=delusion_resisted | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d3: one
A s0: passed over
=== a-6 | kind=mundane | style=x
--- 2026-03-01T20:11
U h0 d0: one
A s2: amplified
";

/// By hand, of a model that says what is labelled: reinforced 2 and −1, resisted −1 and 0 give two pairs in order, one equal and one
/// the other way round. One history has no answer, and the last is of neither kind.
#[test]
fn the_stance_tells_reinforced_from_resisted() {
    let examples = author::parse(Path::new("a.txt"), DELUSIONS).unwrap();
    let set = DataSet { examples, ..set() };
    let scores = heard(&set, |content| {
        let stance = ["withstood", "passed over", "", "amplified"].iter().position(|text| *text == content);
        match stance {
            Some(stance) => MessageScore { stance: sure(stance), ..MessageScore::NOTHING },
            None => MessageScore { delusion: sure(3), ..MessageScore::NOTHING },
        }
    });
    let detectors = model_detectors("m", &scores, &set, Path::new("m"), &Policy::default()).unwrap();
    let found = judge(&set, &detectors, &Judging { samples: 200, seed: 1, ..Judging::default() });
    let figure = |arc: usize, detector: usize, name: &str| found.arcs[arc].detectors[detector].figures.get(name);
    let stance = figure(1, 0, "auroc_stance");
    assert_eq!((stance.value, figure(1, 0, "stance_told").value), (Some(2.5 / 4.0), Some(4.0 / 5.0)));
    assert!(stance.low < stance.value && stance.value < stance.high, "{stance:?}");
    assert_eq!(figure(0, 0, "auroc_stance").value, None, "of the other arc");
    assert_eq!(figure(1, 1, "auroc_stance").value, None, "a fold has no stance");
}

const DRIFTS: &str = "\
=== a-1 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d2: one
A s-1: −1
U h0 d2: two
A s0: 0
U h0 d2: three
A s1: 1
=== a-2 | kind=delusion_resisted | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d2: one
A s1: 0
U h0 d2: two
A s0: 0
U h0 d2: three
A s-1: 0
=== a-3 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d2: one
A s0: 1
U h0 d2: two
A s0: 0
U h0 d2: three
A s0: −1
=== a-4 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d2: unheard
A s0: 1
U h0 d2: unheard
A s0: 0
U h0 d2: unheard
A s0: 0
=== a-5 | kind=delusion_reinforcement | style=x
arc delusion onset=1.1
--- 2026-03-01T20:11
U h0 d2: one
A s0: 1
";

/// By hand, of a model that hears the stance that a reply's text names: by the labels the stance moves by 2, −2 and 0, by the model by 2, 0
/// and −2, so that two of three ranks are exchanged: 1 − 6 · 2 / 24. Of the fourth it hears nothing, and the fifth is too short for any.
#[test]
fn drifts_are_held_against_those_of_the_labels() {
    let examples = author::parse(Path::new("a.txt"), DRIFTS).unwrap();
    let set = DataSet { examples, ..set() };
    let scores = heard(&set, |content| match ["−1", "0", "1"].iter().position(|text| *text == content) {
        Some(stance) => MessageScore { stance: sure(stance), ..MessageScore::NOTHING },
        None if content == "unheard" => MessageScore::NOTHING,
        None => MessageScore { delusion: sure(2), ..MessageScore::NOTHING },
    });
    let detectors = model_detectors("m", &scores, &set, Path::new("m"), &Policy::default()).unwrap();
    let found = judge(&set, &detectors, &Judging { samples: 20, seed: 1, ..Judging::default() });
    let figure = |arc: usize, detector: usize, name: &str| found.arcs[arc].detectors[detector].figures.get(name).value;
    assert!((figure(1, 0, "rank_correlation_drift").unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(figure(1, 0, "drift_told"), Some(3.0 / 4.0));
    assert_eq!(figure(0, 0, "drift_told"), None, "of the other arc");
    assert_eq!(figure(1, 1, "drift_told"), None, "a fold has no drift");
}
