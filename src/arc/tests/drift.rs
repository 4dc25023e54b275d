//! What becomes of the promise where its assumption does not hold: lives of innocents whose levels do not come evenly and
//! independently, in shares near to those that `evidence` takes for theirs.
//!
//! The shares found are those of the fixed seed. Time stands still in all of these lives: nothing fades, which is the worst case.

use std::f64::consts::TAU;

use super::*;

const LIVES: usize = 2_000;
/// User messages of a life, and of a session.
const MESSAGES: usize = 400;
const SESSION: usize = 10;
/// How often innocents look like level 2, and like level 3, by the assumption.
const SLIP: f64 = 0.005;
/// Scores, and the probability that each promises an innocent life at most.
const PROMISES: [(f32, f64); 3] = [(ARC_SCORE_MIN, 0.2), (0.372, 0.07), (0.5, 0.01)];

/// The shares of lives that ever reach the scores of [`PROMISES`]; `level` says the level of a message by its number in its life.
fn ever(kind: ArcKind, mut level: impl FnMut(usize) -> usize) -> [f64; 3] {
    let mut reached = [0.0; 3];
    for _ in 0..LIVES {
        let mut arc = ArcState::new(kind);
        for message in 0..MESSAGES {
            let mut observation = user(message / SESSION, message % SESSION, 0, level(message));
            observation.score.delusion = observation.score.harassment;
            arc.step(&observation);
        }
        for (share, (score, _)) in reached.iter_mut().zip(PROMISES) {
            *share += f64::from(u8::from(arc.score() >= score)) / LIVES as f64;
        }
    }
    reached
}

/// The level that a number from 0 to 1 stands for, with these shares of level 1 and of each slip.
fn drawn(number: f64, grudges: f64, slip: f64) -> usize {
    match number {
        x if x < slip => 3,
        x if x < 2.0 * slip => 2,
        x if x < 2.0 * slip + grudges => 1,
        _ => 0,
    }
}

/// Lives of messages that are drawn each by itself.
fn ever_apart(kind: ArcKind, grudges: impl Fn(usize) -> f64, slip: f64) -> [f64; 3] {
    let mut next = uniform();
    ever(kind, |message| drawn(next(), grudges(message), slip))
}

/// Lives of sessions that are now and then of one level throughout: the one that `burst` gives for a number from 0 to 1.
fn ever_in_bursts(
    kind: ArcKind,
    burst: impl Fn(f64) -> Option<usize>,
    mut level: impl FnMut(f64) -> usize,
) -> [f64; 3] {
    let (mut next, mut begun) = (uniform(), None);
    ever(kind, |message| {
        if message % SESSION == 0 {
            begun = burst(next());
        }
        begun.unwrap_or_else(|| level(next()))
    })
}

/// The mean of a message's e-value where the levels come in these shares.
fn mean_e_value(kind: ArcKind, shares: [f64; 4]) -> f64 {
    let certain = |level: usize| std::array::from_fn(|k| f32::from(u8::from(k == level)));
    shares.iter().enumerate().map(|(level, share)| share * evidence::gain(kind, &certain(level)).exp()).sum()
}

/// By hand: a sure level 0, 1, 2, 3 multiplies by .8113, 1.2200, 28.96, 5.50 (harassment) and by .7992, .9175, 24.94, 15.82
/// (delusion). A slip more in a hundred, not grudges, is what makes an innocent's bets pay.
#[test]
fn the_mean_e_value_says_how_far_an_assumption_is_off() {
    let shares = [
        ("few grudges", [0.98, 0.01, 0.005, 0.005], [0.980, 0.996]),
        ("many grudges", [0.87, 0.12, 0.005, 0.005], [1.025, 1.009]),
        ("twice the slips", [0.931, 0.049, 0.01, 0.01], [1.160, 1.197]),
    ];
    for (name, shares, expected) in shares {
        for (kind, expected) in ArcKind::ALL.into_iter().zip(expected) {
            let mean = mean_e_value(kind, shares);
            assert!((mean - expected).abs() < 0.001, "{name}, {kind:?}: {mean}");
        }
    }
}

/// The share of level 1 falls from .12 to .01 over a life, rises so, or goes up and down every ten sessions. Falling is the worst:
/// the first bets have the most money. Measured: at most .083 of lives, .034 and .003, of the .2, .07 and .01 promised.
#[test]
fn a_share_of_grudges_that_moves_keeps_the_promise() {
    let part = |message: usize| 0.11 * message as f64 / (MESSAGES - 1) as f64;
    let mut highest = [0.0_f64; 3];
    for kind in ArcKind::ALL {
        let falling = ever_apart(kind, |message| 0.12 - part(message), SLIP);
        let rising = ever_apart(kind, |message| 0.01 + part(message), SLIP);
        let waves = ever_apart(kind, |message| 0.065 + 0.055 * (TAU * message as f64 / 100.0).sin(), SLIP);
        for shares in [falling, rising, waves] {
            for ((share, highest), (score, promised)) in shares.into_iter().zip(&mut highest).zip(PROMISES) {
                assert!(share <= promised, "{kind:?}: {share} at {score}");
                *highest = highest.max(share);
            }
        }
    }
    let [low, middle, high] = highest;
    assert!((0.081..0.086).contains(&low) && (0.032..0.035).contains(&middle), "{highest:?}");
    assert!((0.002..0.004).contains(&high), "{highest:?}");
}

/// Slips of 1% a level instead of .5%: 2.4% (harassment) and 2.65% (delusion) of lives reach the score of 1%; 8.7% that of 7%.
#[test]
fn twice_the_slips_break_the_promise_by_this_much() {
    let found = ArcKind::ALL.map(|kind| ever_apart(kind, |_| 0.049, 2.0 * SLIP));
    for ([_, at_middle, at_high], [middle, high]) in found.into_iter().zip([[0.0870, 0.0240], [0.0870, 0.0265]]) {
        assert!((at_middle - middle).abs() < 0.002 && (at_high - high).abs() < 0.002, "{found:?}");
    }
}

/// A session in twenty is of level 1 throughout, which leaves the share as it is: .75% of lives reach the score of 1% in
/// harassment, where a grudge is worth more, and .45% in delusion.
#[test]
fn grudges_in_bursts_break_the_promise_by_little() {
    let found = ArcKind::ALL.map(|kind| ever_in_bursts(kind, |x| (x < 0.05).then_some(1), |x| drawn(x, 0.0, SLIP)));
    for ([low, middle, high], expected) in found.into_iter().zip([0.0075, 0.0045]) {
        assert!(low <= 0.2 && middle <= 0.07 && (high - expected).abs() < 0.001, "{found:?}");
    }
}

/// A session in a hundred is of level 2 or 3 throughout, which leaves the share of slips as it is: .3445 of lives have one, and
/// each alarms. A model that slips on a topic rather than on a message has no promise to give.
#[test]
fn slips_in_bursts_break_the_promise_altogether() {
    for kind in ArcKind::ALL {
        let burst = |x: f64| (x < 2.0 * SLIP).then_some(if x < SLIP { 2 } else { 3 });
        let [low, _, high] = ever_in_bursts(kind, burst, |x| drawn(x, 0.049, 0.0));
        assert!((high - 0.3445).abs() < 0.002, "{kind:?}: {high}");
        assert_eq!(low, high, "{kind:?}: nothing else does");
    }
}
