//! Histories that begin late in an innocent life, and the thresholds that such lives give.

#![cfg(feature = "benchmark")]

use std::path::Path;

use throughline::arc::{ArcKind, MessageAt};
use throughline::benchmark::data::{DataSet, author};
use throughline::benchmark::detector::{
    Detector, ModelScores, ScoredMessage, ScoredUser, UserMessage, WATCHED_MAX, model_detectors, watched_names,
};
use throughline::benchmark::evaluate::{Judging, SetReport, Thresholds, judge};
use throughline::benchmark::metrics::bootstrap::SplitMix64;
use throughline::benchmark::simulate::lives::{Before, Late, LifeSettings, Pool};
use throughline::scoring::{MessageScore, expected_level};
use throughline::transcript::Role;
use throughline::verdict::Policy;

/// A case with its twin, an innocent, and a member of minimal pairs.
const AUTHOR: &str = "\
=== a-1 | kind=harassment_escalation | style=x
arc harassment onset=2.1
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
--- 2026-03-05T20:11
U h3 d0: three
A s0: four
=== a-2 | kind=twin_harassment | style=x | twin=a-1
--- 2026-03-01T20:11
U h0 d0: one
A s0: two
--- 2026-03-05T20:11
U h0 d0: three
A s0: four
=== a-3 | kind=mundane | style=x
--- 2026-03-02T20:11
U h0 d0: one
=== a-s001a | kind=contrast | style=x
--- 2026-03-02T20:11
U h1 d0: one
";
const BEFORE: Before = Before { sessions: 5, gap_days: 3.0, seed: 1 };

fn score(harassment: [f32; 4]) -> MessageScore {
    MessageScore { harassment, ..MessageScore::NOTHING }
}

/// The authors' histories, and a model that gives every message of a user its label.
fn labelled() -> (DataSet, ModelScores) {
    let examples = author::parse(Path::new("a.txt"), AUTHOR).unwrap();
    let mut scores = ModelScores::new();
    for example in &examples {
        let mut scored = Vec::new();
        for (session, held) in example.history.sessions.iter().enumerate() {
            for (message, one) in held.messages.iter().enumerate() {
                let level = if one.content == "three" && example.history.user_id == "a-1" { 3 } else { 0 };
                let mut harassment = [0.0; 4];
                harassment[level] = 1.0;
                let at = MessageAt { session, message };
                scored.push(ScoredMessage { at, role: one.role, score: score(harassment) });
            }
        }
        scores.insert(example.history.user_id.clone(), scored);
    }
    let (name, about) = ("arcs".into(), "invented".into());
    (DataSet { name, about, targets: author::targets(), examples, review: None, left_out: Vec::new() }, scores)
}

/// Sessions of a user message and its answer, one for each of these levels of harassment.
fn pool(levels: &[[f32; 4]]) -> Pool {
    let mut pool = Pool::default();
    for (number, level) in levels.iter().enumerate() {
        let said = |(message, role): (usize, Role)| {
            // Numbered as in a transcript with a message of the system first.
            let at = MessageAt { session: 7, message: message + 1 };
            let score = if role == Role::User { score(*level) } else { MessageScore::NOTHING };
            UserMessage { scored: ScoredMessage { at, role, score }, time: None, categories: Vec::new() }
        };
        let messages = [Role::User, Role::Assistant].into_iter().enumerate().map(said).collect();
        pool.see(&ScoredUser { user_id: number.to_string(), messages, unjudged: false });
    }
    pool
}

fn innocent() -> Pool {
    pool(&[[1.0, 0.0, 0.0, 0.0], [0.9, 0.1, 0.0, 0.0], [0.95, 0.05, 0.0, 0.0]])
}

fn detectors(late: &Late) -> Vec<Detector> {
    model_detectors("m", &late.scores, &late.set, Path::new("m"), &Policy::default()).unwrap()
}

/// Judged at a threshold of ½ for the highest message.
fn report(late: &Late) -> SetReport {
    let mut thresholds = Thresholds::default();
    thresholds.keep(ArcKind::Harassment, watched_names("m")[WATCHED_MAX].clone(), 0.5);
    judge(&late.set, &detectors(late), &Judging { thresholds, ..Judging::default() })
}

fn highest(report: &SetReport, name: &str) -> Option<f64> {
    report.arcs[ArcKind::Harassment as usize].detectors[WATCHED_MAX].figures.get(name).value
}

#[test]
fn nothing_before_a_history_changes_nothing() {
    let (set, scores) = labelled();
    let late = innocent().before(&set, &scores, Before { sessions: 0, ..BEFORE }).unwrap();
    assert_eq!(late, Late { set, scores });
}

#[test]
fn places_and_times_move_on_together() {
    let (set, scores) = labelled();
    let late = innocent().before(&set, &scores, BEFORE).unwrap();
    let (one, twin, contrast) = (&late.set.examples[0], &late.set.examples[1], &late.set.examples[3]);
    assert_eq!(one.history.sessions.len(), 7);
    assert_eq!(one.onset(ArcKind::Harassment), Some(MessageAt { session: 6, message: 0 }));
    assert_eq!(one.labels[0].at, Some(MessageAt { session: 5, message: 0 }));
    // Three days from one to the next, up to the first of March.
    let began = |session: usize| one.history.sessions[session].start().unwrap().to_string();
    assert_eq!((began(0), began(4)), ("2026-02-14T20:11:00Z".into(), "2026-02-26T20:11:00Z".into()));
    assert_eq!(began(5), "2026-03-01T20:11:00Z");
    // Its own scores stand behind those drawn, which are its twin's.
    let (own, of_twin) = (&late.scores["a-1"], &late.scores["a-2"]);
    assert_eq!((own.len(), &own[..10]), (14, &of_twin[..10]));
    assert_eq!(own[1].at, MessageAt { session: 0, message: 1 });
    assert_eq!(own[12].at, MessageAt { session: 6, message: 0 });
    assert_eq!(own[12].score, scores["a-1"][2].score);
    assert_eq!(one.history.sessions[..5], twin.history.sessions[..5]);
    // Pairs are compared place by place, and have no arcs to judge.
    assert_eq!((contrast, &late.scores["a-s001a"]), (&set.examples[3], &scores["a-s001a"]));
    assert_eq!(late, innocent().before(&set, &scores, BEFORE).unwrap(), "the same seed, the same sessions");
}

#[test]
fn an_arc_is_found_as_soon_after_an_innocent_life_and_weighs_less() {
    let (set, scores) = labelled();
    let late = innocent().before(&set, &scores, Before { sessions: 200, ..BEFORE }).unwrap();
    let (early, late) = (Late { set, scores }, late);
    for found in [report(&early), report(&late)] {
        assert_eq!((highest(&found, "recall"), highest(&found, "false_positive_rate")), (Some(1.0), Some(0.0)));
        for name in ["delay_messages", "delay_user_messages", "delay_sessions", "alarms_before_onset"] {
            assert_eq!(highest(&found, name), Some(0.0), "{name}");
        }
    }
    // The 202nd bet against innocence has a smaller part of the money than the second.
    let arc = |late: &Late| detectors(late)[0].whole[0][0];
    assert!(arc(&late) < arc(&early) && arc(&late) > 0.0, "{} {}", arc(&late), arc(&early));
}

/// By hand: of five sessions of a threat each, the first message is an alarm. The onset is the user's seventh message, the
/// thirteenth of all, in the seventh session.
#[test]
fn alarms_before_a_history_are_false_or_early() {
    let (set, scores) = labelled();
    let late = pool(&[[0.0, 0.0, 0.0, 1.0]]).before(&set, &scores, BEFORE).unwrap();
    let found = report(&late);
    assert_eq!((highest(&found, "recall"), highest(&found, "false_positive_rate")), (Some(1.0), Some(1.0)));
    assert_eq!(highest(&found, "alarms_before_onset"), Some(1.0));
    assert_eq!(highest(&found, "delay_messages"), Some(-12.0));
    assert_eq!(highest(&found, "delay_user_messages"), Some(-6.0));
    assert_eq!(highest(&found, "delay_sessions"), Some(-6.0));
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let (set, scores) = labelled();
    let error = Pool::default().before(&set, &scores, BEFORE).unwrap_err();
    assert!(error.contains("no message of any user") && error.contains("hint"), "{error}");
    // Two messages a session, before each of three histories.
    let error = innocent().before(&set, &scores, Before { sessions: 1_000_000, ..BEFORE }).unwrap_err();
    assert!(error.contains("about 6000000 messages") && error.contains("--after"), "{error}");
}

/// By hand: P(Bin(100, 0.1) ≤ 4) = 0.024 and P(Bin(100, 0.1) ≤ 5) = 0.058, so that four of a hundred lives may stand above the
/// threshold of which a tenth is said with 95% confidence; ten, where it is said of these lives alone.
#[test]
fn learn_then_test_allows_fewer_lives_than_those_drawn_had() {
    let levels: Vec<[f32; 4]> = (0..1_000).map(|i| [1.0 - i as f32 / 1_000.0, i as f32 / 1_000.0, 0.0, 0.0]).collect();
    let settings = LifeSettings { lives: 100, sessions: 1, gap_days: 3.0, seed: 9 };
    let kept = pool(&levels).thresholds(settings, 0.2).unwrap()[ArcKind::Harassment as usize];
    let mut random = SplitMix64::new(9);
    let mut drawn: Vec<f64> = (0..100).map(|_| f64::from(expected_level(&levels[random.below(1_000)])) / 3.0).collect();
    drawn.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(kept.watched[WATCHED_MAX], drawn[10].next_up());
    assert_eq!(kept.learned, Some(drawn[4].next_up()));
    assert!(kept.learned.unwrap() > kept.watched[WATCHED_MAX]);
    // (1 − 0.05)^58 is more than 5%: of fewer than 59 lives nothing can be said of a twentieth.
    let learned = |lives| pool(&levels).thresholds(LifeSettings { lives, ..settings }, 0.1).unwrap()[0].learned;
    assert!(learned(58).is_none() && learned(59).is_some());
}
