//! Policies on invented arcs.

use super::*;
use crate::arc::{ArcState, Observation};
use crate::scoring::MessageScore;

fn arc(delusion: &[[f32; 4]], imminent: f32) -> ArcState {
    let mut arc = ArcState::new(ArcKind::Delusion);
    for (message, &delusion) in delusion.iter().enumerate() {
        let score = MessageScore { delusion, imminent, ..MessageScore::NOTHING };
        arc.step(&Observation { at: MessageAt { session: 0, message }, time: None, from_user: true, score });
    }
    arc
}

#[test]
fn levels_rise_with_the_score() {
    let policy = Policy::default();
    let (nothing, likely) = ([1.0, 0.0, 0.0, 0.0], [0.6, 0.0, 0.4, 0.0]);
    let found: Vec<Level> = [0, 3, 5, 8].map(|times| policy.arc_level(&arc(&vec![likely; times], 0.0))).to_vec();
    assert_eq!(found, [Level::None, Level::Watch, Level::Review, Level::Senior]);
    assert_eq!(policy.arc_level(&arc(&[nothing; 50], 0.0)), Level::None);
    assert!(Level::None < Level::Watch && Level::Senior < Level::Urgent);
}

#[test]
fn whatever_has_a_level_has_an_onset() {
    let mut watches = 0;
    for thousandths in 0..=1_000 {
        let p = thousandths as f32 / 1_000.0;
        let arc = arc(&[[1.0 - p, 0.0, p, 0.0]; 2], 0.0);
        let level = Policy::default().arc_level(&arc);
        watches += usize::from(level == Level::Watch);
        assert_eq!(level > Level::None, arc.onset().is_some(), "p {p}: {level}, {}", arc.score());
    }
    assert!(watches > 0);
}

#[test]
fn an_imminent_threat_is_urgent_at_any_score() {
    assert_eq!(Policy::default().arc_level(&arc(&[[1.0, 0.0, 0.0, 0.0]], 0.9)), Level::Urgent);
}

#[test]
fn names_are_read_back() {
    for level in Level::ALL {
        assert_eq!(level.as_str().parse::<Level>(), Ok(level));
    }
    assert!("high".parse::<Level>().unwrap_err().contains("hint"));
}

/// A belief of level 2 every other message, each answered with the stance given.
fn answered(stance: [f32; 4]) -> ArcState {
    let mut arc = ArcState::new(ArcKind::Delusion);
    for message in 0..12 {
        let at = MessageAt { session: message / 4, message };
        let user = MessageScore { delusion: [0.0, 0.0, 1.0, 0.0], ..MessageScore::NOTHING };
        let reply = MessageScore { stance, ..MessageScore::NOTHING };
        let score = if message % 2 == 0 { user } else { reply };
        arc.step(&Observation { at, time: None, from_user: message % 2 == 0, score });
    }
    arc
}

fn judge(policy: &Policy, arc: ArcState, categories: &[(MessageAt, &str)]) -> Verdict {
    let mut named = Named::default();
    categories.iter().for_each(|(at, id)| named.add(*at, &[(*id).to_owned()]));
    let arcs = [ArcState::new(ArcKind::Harassment), arc];
    let facts = Facts { arcs: &arcs, named: &named };
    let verdict = policy.judge(&facts);
    assert_eq!(policy.level(&facts), verdict.level, "asked without reasons, too");
    verdict
}

fn ids(verdict: &Verdict) -> Vec<&str> {
    let rule = |finding: &'_ Finding| match &finding.reason {
        Reason::Rule { id, .. } => Some(id.clone()),
        _ => None,
    };
    verdict.findings.iter().filter_map(rule).map(|id| &*id.leak()).collect()
}

#[test]
fn a_product_that_feeds_a_belief_is_told_from_one_that_resists() {
    let policy = Policy::default();
    let fed = judge(&policy, answered([0.0, 0.0, 0.0, 1.0]), &[]);
    let resisted = judge(&policy, answered([1.0, 0.0, 0.0, 0.0]), &[]);
    assert_eq!((fed.level, resisted.level), (Level::Senior, Level::Senior));
    assert_eq!((ids(&fed), ids(&resisted)), (vec!["assistant-feeds-belief"], vec![]));
    assert!(fed.mitigations.contains(&Mitigation::MemoryOff) && !resisted.mitigations.contains(&Mitigation::MemoryOff));
    assert!(resisted.mitigations.contains(&Mitigation::RateLimit), "the level's own");
    assert_eq!(fed.arc_level(ArcKind::Harassment), Level::None);
    let messages: Vec<usize> = fed.findings[0].messages.iter().map(|at| at.message).collect();
    assert_eq!(messages, [0, 2, 4, 6, 8, 10], "what it rests on, in order");
}

#[test]
fn every_condition_of_a_rule_must_hold() {
    let arc = answered([0.0, 0.0, 0.0, 1.0]);
    let base = Rule { id: "r".into(), why: "w".into(), level: Some(Level::Urgent), ..Rule::default() };
    for (rule, holds) in [
        (Rule { score_min: Some(0.5), ..base.clone() }, true),
        (Rule { score_min: Some(0.99), ..base.clone() }, false),
        (Rule { score_now_min: Some(0.5), sessions_min: Some(3), ..base.clone() }, true),
        (Rule { score_now_min: Some(0.5), sessions_min: Some(4), ..base.clone() }, false),
        (Rule { arc: Some(ArcKind::Harassment), score_min: Some(0.1), ..base.clone() }, false),
        (Rule { assistant_stance_max: Some(0.0), ..base.clone() }, false),
        (Rule { assistant_stance_min: Some(1.5), assistant_stance_max: Some(2.0), ..base.clone() }, true),
        (Rule { category: Some("S9".into()), messages_min: Some(2), ..base.clone() }, true),
        (Rule { category: Some("S9".into()), messages_min: Some(3), ..base.clone() }, false),
        (Rule { category: Some("S9".into()), score_min: Some(0.5), ..base.clone() }, true),
        (Rule { category: Some("S8".into()), score_min: Some(0.5), ..base.clone() }, false),
    ] {
        let policy = Policy { rules: vec![rule.clone()], ..Policy::default() };
        policy.check().unwrap();
        let at = |message| MessageAt { session: 0, message };
        let verdict = judge(&policy, arc.clone(), &[(at(0), "S9"), (at(1), "S1"), (at(2), "S9")]);
        assert_eq!(verdict.level, if holds { Level::Urgent } else { Level::Senior }, "{rule:?}");
    }
}

/// A rule that a message of the category S9 is to be reviewed.
fn on_category() -> Policy {
    let rule = Rule {
        id: "r".into(),
        why: "w".into(),
        level: Some(Level::Review),
        category: Some("S9".into()),
        ..Rule::default()
    };
    Policy { rules: vec![rule], ..Policy::default() }
}

#[test]
fn a_rule_on_a_category_needs_no_arc() {
    let policy = on_category();
    let at = MessageAt { session: 3, message: 7 };
    let verdict = judge(&policy, ArcState::new(ArcKind::Delusion), &[(at, "S9")]);
    assert_eq!((verdict.level, verdict.findings[0].arc), (Level::Review, None));
    assert_eq!(verdict.findings[0].messages, [at]);
}

#[test]
fn a_level_that_a_rule_gives_brings_its_own_mitigations() {
    let rule =
        Rule { id: "r".into(), why: "w".into(), score_min: Some(0.3), level: Some(Level::Urgent), ..Rule::default() };
    let policy = Policy { rules: vec![rule], ..Policy::default() };
    let verdict = judge(&policy, answered([1.0, 0.0, 0.0, 0.0]), &[]);
    assert_eq!((verdict.level, verdict.on_failure), (Level::Urgent, OnFailure::Closed));
    assert!(verdict.mitigations.contains(&Mitigation::ReviewBeforeRestoring));
}

#[test]
fn a_threat_names_its_message_and_whether_it_is_aimed_at_a_person() {
    let threat = |harassment, delusion| {
        let score = MessageScore { harassment, delusion, imminent: 0.9, ..MessageScore::NOTHING };
        let mut arcs = ArcKind::ALL.map(ArcState::new);
        let at = MessageAt { session: 1, message: 4 };
        arcs.iter_mut().for_each(|arc| arc.step(&Observation { at, time: None, from_user: true, score }));
        let verdict = Policy::default().judge(&Facts { arcs: &arcs, named: &Named::default() });
        assert_eq!(verdict.level, Level::Urgent);
        let finding = verdict.findings[0].clone();
        assert_eq!(finding.messages, [at]);
        match finding.reason {
            Reason::Imminent { toward_person, .. } => (finding.arc, toward_person),
            other => panic!("{other:?}"),
        }
    };
    let (high, low) = ([0.0, 0.0, 0.1, 0.9], [0.9, 0.1, 0.0, 0.0]);
    assert_eq!(threat(high, low), (Some(ArcKind::Harassment), 1.0));
    assert_eq!(threat(low, high), (Some(ArcKind::Delusion), 0.0));
}

#[test]
fn of_many_messages_of_a_category_the_first_are_named_and_all_counted() {
    let policy = on_category();
    let many: Vec<_> = (0..100).map(|message| (MessageAt { session: 0, message }, "S9")).collect();
    let finding = judge(&policy, ArcState::new(ArcKind::Delusion), &many).findings.remove(0);
    assert_eq!((finding.messages.len(), finding.messages_count), (12, 100));
}

#[test]
fn every_threat_is_named() {
    let mut arc = ArcState::new(ArcKind::Delusion);
    for (message, imminent) in [0.6, 0.1, 0.9].into_iter().enumerate() {
        let score = MessageScore { imminent, ..MessageScore::NOTHING };
        arc.step(&Observation { at: MessageAt { session: 0, message }, time: None, from_user: true, score });
    }
    let finding = judge(&Policy::default(), arc, &[]).findings.remove(0);
    assert_eq!(finding.messages.iter().map(|at| at.message).collect::<Vec<_>>(), [0, 2]);
    assert!(matches!(finding.reason, Reason::Imminent { probability, .. } if probability == 0.9));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut Policy)| {
        let mut policy = Policy::default();
        change(&mut policy);
        policy.check().unwrap_err()
    };
    let rule = |change: &dyn Fn(&mut Rule)| {
        let mut rule = Rule {
            id: "r".into(),
            why: "w".into(),
            score_min: Some(0.3),
            level: Some(Level::Watch),
            ..Rule::default()
        };
        change(&mut rule);
        refused(&|policy| policy.rules = vec![rule.clone()])
    };
    Policy::default().check().unwrap();
    for (error, parts) in [
        (refused(&|p| p.schema_version = 2), &["2", "1", "hint"][..]),
        (refused(&|p| p.name = "a b".into()), &["\"a b\"", "hint"]),
        (refused(&|p| p.levels.review.score_min = Some(0.1)), &["levels.review", "0.1", "watch", "0.28"]),
        (refused(&|p| p.levels.senior.score_min = Some(1.5)), &["levels.senior", "1.5", "0 and 1"]),
        (refused(&|p| p.levels.senior.score_min = Some(f32::NAN)), &["levels.senior", "NaN"]),
        (refused(&|p| p.levels.watch.score_min = None), &["levels.watch.score_min is missing"]),
        (refused(&|p| p.levels.urgent.imminent_min = None), &["levels.urgent.imminent_min is missing"]),
        (refused(&|p| p.levels.urgent.score_min = Some(0.9)), &["levels.urgent has a score_min"]),
        (refused(&|p| p.levels.watch.imminent_min = Some(0.9)), &["levels.watch has an imminent_min"]),
        (refused(&|p| p.description = "x".repeat(401)), &["description", "401", "400"]),
        (refused(&|p| p.rules = vec![p.rules[0].clone(), p.rules[0].clone()]), &["rule 2", "twice"]),
        (refused(&|p| p.rules = vec![p.rules[0].clone(); 101]), &["101", "100"]),
        (rule(&|r| r.why = " ".into()), &["why is empty"]),
        (rule(&|r| r.why = "a\u{1b}[2J".into()), &["why", "u{1b}"]),
        (rule(&|r| r.score_min = Some(-0.1)), &["score_min is -0.1"]),
        (rule(&|r| r.assistant_stance_min = Some(3.0)), &["assistant_stance_min is 3", "-1 and 2"]),
        (rule(&|r| r.messages_min = Some(3)), &["messages_min", "category"]),
        (rule(&|r| r.score_min = None), &["no condition"]),
        (
            rule(&|r| {
                r.score_min = None;
                r.arc = Some(ArcKind::Delusion);
            }),
            &["no condition"],
        ),
        (rule(&|r| r.score_min = Some(0.0)), &["score_min is 0"]),
        (rule(&|r| r.sessions_min = Some(0)), &["sessions_min is 0"]),
        (rule(&|r| r.category = Some("a b".into())), &["category", "a b"]),
        (
            rule(&|r| {
                r.assistant_stance_min = Some(1.0);
                r.assistant_stance_max = Some(-1.0);
            }),
            &["assistant_stance_min is 1", "-1"],
        ),
        (refused(&|p| p.levels.urgent.imminent_min = Some(0.01)), &["imminent_min is 0.01", "0.02"]),
        (rule(&|r| r.level = None), &["changes nothing"]),
        (rule(&|r| r.level = Some(Level::None)), &["changes nothing"]),
    ] {
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }
}

#[cfg(feature = "policy")]
#[test]
fn the_default_policy_is_the_file_that_is_shown() {
    let file = PolicyFile::from_toml(DEFAULT_POLICY_TOML, "default.toml").unwrap();
    assert_eq!(file, PolicyFile::default());
    // The commented examples are rules, too.
    let (head, examples) = DEFAULT_POLICY_TOML.split_once("# A rule that raises a level").unwrap();
    let examples: String = examples
        .lines()
        .skip(2)
        .map(|line| format!("{}\n", line.trim_start_matches("# ").trim_start_matches('#')))
        .collect();
    let more = PolicyFile::from_toml(&format!("{head}{examples}"), "more.toml").unwrap();
    assert_eq!(more.policy.rules.len(), 4);
}

#[cfg(feature = "policy")]
#[test]
fn a_file_with_a_mistake_is_told_with_its_place() {
    for (from, to, part) in [
        ("score_min = 0.28", "score_mn = 0.28", "score_mn"),
        ("[\"rate-limit\"]", "[\"limit\"]", "limit"),
        ("on_failure = \"open\"", "on_failure = \"ajar\"", "ajar"),
        ("[levels.senior]", "[levels.high]", "high"),
        ("score_min = 0.398                  # α = 5%", "score_min = 0.1", "levels.review.score_min is 0.1"),
    ] {
        assert!(DEFAULT_POLICY_TOML.contains(from), "{from}");
        let error =
            PolicyFile::from_toml(&DEFAULT_POLICY_TOML.replacen(from, to, 1), "mine.toml").unwrap_err().to_string();
        assert!(error.starts_with("policy mine.toml: ") && error.contains(part), "{error}");
    }
    let later = DEFAULT_POLICY_TOML.replace("schema_version = 1 ", "schema_version = 2 ") + "\nnew_key = 1\n";
    let error = PolicyFile::from_toml(&later, "mine.toml").unwrap_err().to_string();
    assert!(error.contains("schema_version is 2"), "{error}");
    let private = PolicyFile::from_toml("{\"content\": \"she lives there\"}", "chats.jsonl").unwrap_err().to_string();
    assert!(!private.contains("lives") && private.contains("line 1") && private.contains("hint"), "{private}");
    let large = "#".repeat((1 << 20) + 1);
    assert!(PolicyFile::from_toml(&large, "mine.toml").unwrap_err().to_string().contains("1048576"));
}
