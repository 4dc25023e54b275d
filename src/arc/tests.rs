//! The arc on invented message scores.

use super::*;

mod drift;
mod oracle;

pub(super) fn user(session: usize, message: usize, day: i64, level: usize) -> Observation {
    let mut harassment = [0.0; 4];
    harassment[level] = 1.0;
    Observation {
        at: MessageAt { session, message },
        time: Timestamp::from_second(1_750_000_000 + day * 86_400).ok(),
        from_user: true,
        score: MessageScore { harassment, ..MessageScore::NOTHING },
    }
}

fn arc(observations: &[Observation]) -> ArcState {
    let mut arc = ArcState::new(ArcKind::Harassment);
    observations.iter().for_each(|observation| arc.step(observation));
    arc
}

#[test]
fn innocent_messages_never_add_up() {
    // One in twenty with a grudge, as in innocent histories.
    let observations: Vec<_> =
        (0..10_000).map(|i| user(i / 10, i % 10, i as i64 / 10, usize::from(i % 20 == 0))).collect();
    let arc = arc(&observations);
    assert!(arc.score() < 0.1, "{}", arc.score());
    assert_eq!(arc.onset(), None);
}

#[test]
fn evidence_adds_up_across_sessions_and_names_its_messages() {
    let arc = arc(&[user(0, 0, 0, 0), user(1, 2, 3, 2), user(2, 0, 9, 0), user(3, 4, 12, 2)]);
    assert!(arc.score() > 0.5, "{}", arc.score());
    assert_eq!(arc.onset(), Some(MessageAt { session: 1, message: 2 }), "the first of the run, not the alarm");
    let at: Vec<_> = arc.evidence().iter().map(|e| (e.at.session, e.at.message)).collect();
    assert_eq!(at, [(1, 2), (3, 4)]);
}

fn with_case(mut observation: Observation, probability: f32) -> Observation {
    observation.score.harassment_case = Some(probability);
    observation
}

#[test]
fn an_open_case_is_evidence_by_itself_and_dates_the_onset() {
    let arc = arc(&[0.01, 0.6, 0.2, 0.7, 0.95, 0.9].map(|p| {
        let message = (p * 1e3) as usize;
        with_case(user(0, message, 0, 0), p)
    }));
    // The two surest say 19 and 9 to 1 over 23.8 to 76.2: 60.8 and 28.8, in the mean 44.8, halved 22.4, or a false-alarm probability of 4.5%.
    assert!((0.406..0.407).contains(&arc.score()), "{}", arc.score());
    assert_eq!(
        arc.onset(),
        Some(MessageAt { session: 0, message: 600 }),
        "since when what speaks for it never fell to nothing"
    );
    let at: Vec<_> = arc.evidence().iter().map(|evidence| evidence.at.message).collect();
    assert_eq!(at, [950, 600, 700], "what made the guard surer, the most first");
}

#[test]
fn a_case_that_was_taken_back_does_not_date_the_onset() {
    let cases = [0.7, 0.02, 0.01, 0.15, 0.1, 0.95, 0.95];
    let arc = arc(&std::array::from_fn::<_, 7, _>(|i| with_case(user(0, i, 0, 0), cases[i])));
    assert_eq!(arc.onset(), Some(MessageAt { session: 0, message: 3 }), "doubt counts, what was taken back does not");
}

/// The posterior of a case that begins at a message drawn evenly from 40, before which one message in twenty looks bad
/// and after which half do: of innocents, no more than promised ever reach a level, though the bound is Ville's.
#[test]
fn an_open_case_keeps_the_promise_where_it_is_a_posterior() {
    const HISTORIES: usize = 20_000;
    const PRIOR: f64 = 0.2;
    let mut next = uniform();
    let mut heights = Vec::with_capacity(HISTORIES);
    for _ in 0..HISTORIES {
        // Joint weights of "begun" and "never or not yet" with everything so far.
        let (mut begun, mut rest) = (0.0, 1.0);
        let mut arc = ArcState::new(ArcKind::Harassment);
        for message in 0..40 {
            let begins = PRIOR / 40.0 / (1.0 - PRIOR * message as f64 / 40.0);
            begun += rest * begins;
            rest *= 1.0 - begins;
            let bad = next() < 0.05;
            begun *= 0.5;
            rest *= if bad { 0.05 } else { 0.95 };
            arc.step(&with_case(user(0, message, 0, 0), (begun / (begun + rest)) as f32));
        }
        heights.push(arc.score());
    }
    for (score, promised) in [(ARC_SCORE_MIN, 0.2), (0.372, 0.07), (0.5, 0.01)] {
        let share = heights.iter().filter(|height| **height >= score).count() as f64 / HISTORIES as f64;
        assert!(share <= promised, "{share} at {score}");
    }
    assert!(heights.iter().any(|height| *height >= ARC_SCORE_MIN), "a test that can fail");
}

#[test]
fn what_one_message_says_counts_half_and_the_second_may_come_later() {
    // Of α = 5%.
    let review = 0.398;
    let odds = |probabilities: &[f32]| {
        let all: Vec<_> = (0..).zip(probabilities).map(|(i, p)| with_case(user(i, 0, i as i64, 0), *p)).collect();
        arc(&all).score()
    };
    let quiet = [0.01; 20];
    assert!(odds(&[&quiet[..], &[0.95], &quiet].concat()) < review);
    assert!(odds(&[&quiet[..], &[0.95], &quiet, &[0.95]].concat()) > review, "it recurs");
    assert!(odds(&[&[0.95][..], &[0.01; 40], &[0.95]].concat()) < review, "too long ago");
}

#[test]
fn a_case_that_the_guard_doubts_takes_nothing_from_the_levels_but_half() {
    let levels: Vec<_> = (0..6).map(|i| user(0, i, 0, 2)).collect();
    let doubted: Vec<_> = levels.iter().map(|o| with_case(*o, 1e-6)).collect();
    let (levels, doubted) = (arc(&levels), arc(&doubted));
    assert!((levels.now_nats() - doubted.now_nats() - LN_2).abs() < 1e-6);
}

#[test]
fn certainty_is_no_infinity() {
    for p in [0.0, 1.0, f32::MIN_POSITIVE] {
        assert!(arc(&[with_case(user(0, 0, 0, 0), p)]).now_nats().is_finite(), "{p}");
    }
}

#[test]
fn an_old_slip_is_not_the_onset() {
    let mut observations: Vec<_> = (0..20).map(|i| user(0, i, 0, if i == 19 { 2 } else { 0 })).collect();
    observations.extend((0..40).map(|i| user(1, i, 1, 0)));
    observations.extend([user(2, 0, 2, 2), user(2, 2, 2, 2), user(2, 4, 2, 3)]);
    assert_eq!(arc(&observations).onset(), Some(MessageAt { session: 2, message: 0 }));
}

#[test]
fn an_imminent_threat_counts_in_the_arc_it_belongs_to() {
    let mut threat = user(0, 0, 0, 3);
    threat.score.imminent = 0.9;
    threat.score.delusion = [0.0, 1.0, 0.0, 0.0];
    let imminent = |kind, observation: &Observation| {
        let mut arc = ArcState::new(kind);
        arc.step(observation);
        arc.imminent(0.5)
    };
    assert_eq!(imminent(ArcKind::Harassment, &threat), Some(threat.at));
    assert_eq!(imminent(ArcKind::Delusion, &threat), None);
    threat.score.delusion = threat.score.harassment;
    assert_eq!(imminent(ArcKind::Delusion, &threat), Some(threat.at), "both, where nothing tells them apart");
}

fn arc_of_cases() -> ArcState {
    arc(&[with_case(user(0, 0, 0, 0), 0.9), with_case(user(0, 1, 0, 0), 0.9)])
}

#[test]
fn time_lets_the_state_fade_and_leaves_the_height() {
    let mut arc = arc(&[user(0, 0, 0, 2), user(0, 2, 0, 2)]);
    let (height, nats) = (arc.score(), arc.wealth_nats);
    arc.decay(Timestamp::from_second(1_750_000_000 + 180 * 86_400).ok());
    assert_eq!(arc.score(), height);
    assert!(nats > 0.0 && (arc.wealth_nats - nats / 2.0).abs() < 1e-9, "one half-life: {}", arc.wealth_nats);
    let mut case = arc_of_cases();
    let before = case.case_nats().unwrap();
    case.decay(Timestamp::from_second(1_750_000_000 + 180 * 86_400).ok());
    assert!(before > 0.0 && (case.case_nats().unwrap() - before / 2.0).abs() < 1e-9);
}

/// Ville's bound, by simulation: of histories drawn from the innocent shares of the levels, as few as promised ever
/// reach the score of α = 1%, however long they are.
#[test]
fn innocent_histories_alarm_no_more_often_than_promised() {
    const HISTORIES: usize = 4_000;
    let mut next = uniform();
    let mut level = || match next() {
        x if x < 0.944 => 0,
        x if x < 0.99 => 1,
        x if x < 0.995 => 2,
        _ => 3,
    };
    let alarms = (0..HISTORIES)
        .filter(|_| {
            let history: Vec<_> = (0..400).map(|i| user(i / 10, i % 10, 0, level())).collect();
            arc(&history).score() >= 0.5
        })
        .count();
    // Three standard deviations above 1%.
    assert!(alarms <= 59, "{alarms} of {HISTORIES}");
}

/// Numbers from 0 to 1 by xorshift64* (Vigna 2016), always the same.
pub(super) fn uniform() -> impl FnMut() -> f64 {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn reply(session: usize, message: usize, stance: [f32; 4]) -> Observation {
    let score = MessageScore { stance, ..MessageScore::NOTHING };
    Observation { from_user: false, score, ..user(session, message, 0, 0) }
}

#[test]
fn only_the_reply_right_after_a_message_counts() {
    let (amplifying, protective) = ([0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]);
    let mut observations = vec![user(0, 0, 0, 2), reply(0, 1, protective), reply(0, 2, amplifying)];
    assert_eq!(arc(&observations).assistant_stance(), Some(-1.0), "the second of two replies");
    observations.extend([user(0, 3, 0, 2), reply(1, 0, amplifying)]);
    assert_eq!(arc(&observations).assistant_stance(), Some(-1.0), "the beginning of the next session");
}

#[test]
fn the_assistants_part_is_weighed_by_what_it_answered() {
    let amplifying = [0.0, 0.0, 0.0, 1.0];
    let protective = [1.0, 0.0, 0.0, 0.0];
    let arc = arc(&[user(0, 0, 0, 0), reply(0, 1, amplifying), user(0, 2, 0, 2), reply(0, 3, protective)]);
    assert_eq!(arc.assistant_stance(), Some(-1.0), "the reply to an innocent message does not count");
}

#[test]
fn the_share_told_under_a_frame_is_weighed_by_evidence_and_moves_no_score() {
    let told = |level: usize, framed: Option<f32>| {
        let mut one = user(0, level, 0, level);
        one.score.framed = framed;
        one
    };
    let plain = arc(&[told(0, None), told(2, None), told(3, None)]);
    assert_eq!(plain.framed_share(), None, "a guard that does not say");
    let mixed = arc(&[told(0, Some(1.0)), told(2, Some(1.0)), told(3, Some(0.0))]);
    let gain = |level: u8| mixed.evidence().iter().filter(|one| one.level == level).map(|one| one.gain).sum::<f32>();
    let share = gain(2) / (gain(2) + gain(3));
    assert!((mixed.framed_share().unwrap() - share).abs() < 1e-6, "an innocent story is no evidence");
    assert_eq!(mixed.score(), plain.score());
}

#[test]
fn what_is_said_plainly_after_a_frame_is_a_leak() {
    let told = |message: usize, level: usize, framed: f32| {
        let mut one = user(0, message, 0, level);
        one.score.framed = Some(framed);
        one
    };
    let leak = |messages: &[Observation]| arc(messages).leak();
    let story = [told(0, 0, 0.9), told(2, 2, 0.9), told(4, 0, 0.1), told(6, 2, 0.2), told(8, 3, 0.1)];
    let expected = Leak { at: MessageAt { session: 0, message: 6 }, framed_before: 2 };
    assert_eq!(leak(&story), Some(expected), "not the story, not an everyday message, and the first of two");
    assert_eq!(leak(&story[1..]), None, "one message is no frame yet");
    let apart: Vec<Observation> =
        (0..40).map(|at| told(2 * at, usize::from(at == 39) * 2, if at < 2 { 0.9 } else { 0.1 })).collect();
    assert_eq!(leak(&apart), None, "a story of long ago");
    assert_eq!(leak(&[told(0, 2, 0.1), told(2, 0, 0.9), told(4, 2, 0.9)]), None, "a story after what was said plainly");
}

#[test]
fn an_assistant_that_gives_way_is_told_from_one_that_is_lenient_throughout() {
    let exchange = |stances: [usize; 3]| {
        let messages = stances.iter().enumerate().flat_map(|(at, &stance)| {
            let levels = std::array::from_fn(|level| f32::from(u8::from(level == stance)));
            [user(at, 0, at as i64, 2), reply(at, 1, levels)]
        });
        arc(&messages.collect::<Vec<_>>()).assistant_drift()
    };
    let near = |found: Option<f32>, expected: f32| assert!((found.unwrap() - expected).abs() < 1e-3, "{found:?}");
    near(exchange([0, 1, 2]), 2.0);
    near(exchange([3, 2, 1]), -2.0);
    near(exchange([2, 2, 2]), 0.0);
}

#[test]
fn threats_are_found_at_any_probability_asked_for() {
    let mut arc = ArcState::new(ArcKind::Harassment);
    for (message, probability) in [0.01, 0.3, 0.9, 0.6].into_iter().enumerate() {
        let mut observation = user(0, message, 0, 1);
        observation.score.imminent = probability;
        arc.step(&observation);
    }
    let at = |min| arc.imminent(min).map(|at| at.message);
    assert_eq!([0.25, 0.5, 0.95].map(at), [Some(1), Some(2), None]);
    assert_eq!(arc.imminent_max(), 0.9);
    assert_eq!(arc.likeliest_threat().map(|threat| (threat.at.message, threat.toward_person)), Some((2, 0.0)));
    assert_eq!(arc.threats(0.25).len(), 3);
}

#[test]
fn sessions_with_evidence_are_counted_once() {
    let arc = arc(&[user(0, 0, 0, 0), user(1, 0, 1, 2), user(1, 2, 1, 3), user(2, 0, 2, 0), user(4, 0, 4, 2)]);
    assert_eq!(arc.evidence_sessions(), 2);
}
