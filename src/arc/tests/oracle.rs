//! Wealth, cases and score once more, straight from the formulas at the room's head: every bet by itself, in plain numbers
//! instead of logarithms, and from all that was said up to a message instead of from a state.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

/// A message as it is drawn.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    /// Seconds since the last message with a time, also backwards; `None` of one without a time.
    gap: Option<i64>,
    from_user: bool,
    levels: [f32; 4],
    case: f32,
}

/// What a user's message is worth.
struct Word {
    /// From the first time known to the latest up to here.
    days: f64,
    e_value: f64,
    odds: f64,
}

/// A walk of the state that is judged, beside what it walked over.
struct Walk {
    words: Vec<Word>,
    /// ln L and ln M right after each of them.
    nats: Vec<[f64; 2]>,
    score: f32,
}

fn messages() -> impl Strategy<Value = Vec<Drawn>> {
    let gap = prop_oneof![3 => 0i64..3_600, 1 => -100_000i64..20_000_000];
    let level = prop_oneof![8 => Just(0usize), 2 => Just(1), 1 => Just(2), 1 => Just(3)];
    let message = (prop::option::weighted(0.9, gap), prop::bool::weighted(0.7), (level, 0.7f32..1.0), 0.0f32..0.99);
    let message = message.prop_map(|(gap, from_user, (level, sure), case)| {
        let mut levels = [(1.0 - sure) / 3.0; 4];
        levels[level] = sure;
        // Neither end of the range in which the guard's word is taken as it is.
        Drawn { gap, from_user, levels, case: case.powi(3).max(0.01) }
    });
    prop::collection::vec(message, 1..80)
}

fn walk(kind: ArcKind, drawn: &[Drawn], with_case: bool) -> Walk {
    let prior = evidence::case_nats(kind, 0.5).exp();
    let mut arc = ArcState::new(kind);
    let (mut second, mut first, mut latest) = (1_750_000_000, None, None);
    let (mut words, mut nats) = (Vec::new(), Vec::new());
    for (number, one) in drawn.iter().enumerate() {
        second += one.gap.unwrap_or(0);
        let time = one.gap.map(|_| second);
        (first, latest) = (first.or(time), latest.max(time));
        let case = with_case.then_some(one.case);
        let score = MessageScore {
            harassment: one.levels,
            delusion: one.levels,
            harassment_case: case,
            delusion_case: case,
            framed: None,
            ..MessageScore::NOTHING
        };
        let at = MessageAt { session: number / 10, message: number % 10 };
        let time = time.and_then(|second| Timestamp::from_second(second).ok());
        arc.step(&Observation { at, time, from_user: one.from_user, score });
        if one.from_user {
            let days = (latest.unwrap_or(0) - first.unwrap_or(0)) as f64 / 86_400.0;
            let p = f64::from(one.case);
            let e_value = evidence::gain(kind, &one.levels).exp();
            words.push(Word { days, e_value, odds: p / (1.0 - p) * prior });
            nats.push([arc.wealth_nats, arc.now_nats()]);
        }
    }
    Walk { words, nats, score: arc.score() }
}

/// Σ 1 / (n ln² n) over n ≥ 2: ten thousand terms, and the integral of the rest.
static SPENT: LazyLock<f64> = LazyLock::new(|| {
    const TERMS: u32 = 10_000;
    let terms: f64 = (2..=TERMS).map(|n| 1.0 / (f64::from(n) * f64::from(n).ln().powi(2))).sum();
    terms + 1.0 / (f64::from(TERMS) + 0.5).ln()
});

/// The part of the money with which the nth bet begins, from 1.
fn stake(n: usize) -> f64 {
    let n = n as f64;
    1.0 / (*SPENT * (n + 1.0) * (n + 1.0).ln().powi(2))
}

/// What is left, to the power of which, after so many days.
fn kept(days: f64) -> f64 {
    (-days / HALF_LIFE_DAYS).exp2()
}

/// L of every message: what each bet begun so far has come to, put together. Time takes from all bets alike the part that takes
/// their sum, where that is above 1, to the power d.
fn wealth(words: &[Word]) -> Vec<f64> {
    let (mut wealth, mut left): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for (n, word) in words.iter().enumerate() {
        left.push(match n.checked_sub(1) {
            Some(before) => wealth[before].max(1.0).powf(kept(word.days - words[before].days) - 1.0),
            None => 1.0,
        });
        let (mut sum, mut won) = (0.0, 1.0);
        for begun in (0..=n).rev() {
            won *= words[begun].e_value;
            sum += stake(begun + 1) * won;
            won *= left[begun];
        }
        wealth.push(sum);
    }
    wealth
}

/// C of the last of these messages.
fn case(words: &[Word]) -> f64 {
    let last = &words[words.len().saturating_sub(32)..];
    let now = last.last().map_or(0.0, |word| word.days);
    let faded = |word: &Word| if word.odds > 1.0 { word.odds.powf(kept(now - word.days)) } else { word.odds };
    let mut odds: Vec<f64> = last.iter().map(faded).chain([1.0]).collect();
    odds.sort_by(|a, b| b.total_cmp(a));
    (odds[0] + odds[1]) / 2.0
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-8 * (1.0 + expected.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn wealth_is_the_sum_of_all_bets(drawn in messages()) {
        for kind in ArcKind::ALL {
            let walk = walk(kind, &drawn, false);
            for (found, expected) in walk.nats.iter().zip(wealth(&walk.words)) {
                prop_assert!(near(found[0], expected.ln()), "{kind:?}: ln L = {}, not {}", found[0], expected.ln());
                prop_assert_eq!(found[0], found[1], "no case: M is L");
            }
        }
    }

    #[test]
    fn half_of_what_is_judged_are_the_two_surest_cases(drawn in messages()) {
        for kind in ArcKind::ALL {
            let walk = walk(kind, &drawn, true);
            let mut height = 0.0_f64;
            for (n, wealth) in wealth(&walk.words).into_iter().enumerate() {
                let expected = (wealth + case(&walk.words[..=n])) / 2.0;
                let found = walk.nats[n];
                prop_assert!(near(found[0], wealth.ln()), "{kind:?}: a case takes nothing from L");
                prop_assert!(near(found[1], expected.ln()), "{kind:?}: ln M = {}, not {}", found[1], expected.ln());
                height = height.max(expected);
            }
            let nats = height.ln_1p();
            let score = nats / (nats + 100f64.ln());
            prop_assert!((f64::from(walk.score) - score).abs() < 1e-6, "{kind:?}: {}, not {score}", walk.score);
        }
    }
}
