//! Policies on invented scores.

use super::e_values::EValues;
use super::lives::{LifeSettings, Pool};
use super::*;
use crate::arc::MessageAt;
use crate::benchmark::detector::{UserMessage, WATCHED_MAX, watched_names};
use crate::benchmark::metrics::Figures;
use crate::scoring::MessageScore;
use crate::verdict::Rule;

/// One message a day, at the levels given.
fn user(id: &str, first_day: i64, levels: &[usize]) -> ScoredUser {
    let message = |(index, level): (usize, &usize)| {
        let mut harassment = [0.0; 4];
        harassment[*level] = 1.0;
        let score = MessageScore { harassment, ..MessageScore::NOTHING };
        let at = MessageAt { session: index, message: 0 };
        UserMessage {
            scored: ScoredMessage { at, role: Role::User, score },
            time: Timestamp::from_second((20_000 + first_day + index as i64) * 86_400).ok(),
            categories: Vec::new(),
        }
    };
    let messages = levels.iter().enumerate().map(message).collect();
    ScoredUser { user_id: id.into(), messages, unjudged: false }
}

fn outcome(policy: &Policy, users: &[ScoredUser]) -> Outcome {
    let mut simulation = Simulation::new(policy);
    users.iter().for_each(|user| simulation.see(user));
    simulation.outcome()
}

#[test]
fn alarms_are_counted_on_the_day_they_come() {
    let policy = Policy::default();
    let users = [user("a", 1, &[0, 2, 2, 2, 0, 0, 0, 0, 0, 0]), user("b", 1, &[0, 2, 2, 0]), user("c", 0, &[0; 20])];
    let found = outcome(&policy, &users);
    assert_eq!((found.users, found.user_messages, found.called.users), (3, 34, 2));
    assert_eq!(found.load.days, 20);
    assert_eq!(found.load.mean_a_day, 0.1);
    // Both with their second message of level 2: the first makes 15.0 of the money, where 21 is the score of `review` (no case is told here).
    assert_eq!(found.load.busiest_day.unwrap().to_string(), "2024-10-07");
    assert_eq!((found.load.busiest_day_users, found.load.p95_a_day, found.load.undated), (2, 0, 0));
    assert_eq!(found.levels.iter().map(|one| one.share.users).sum::<u64>(), 3);
}

#[test]
fn a_stricter_policy_calls_fewer_and_undated_alarms_are_told() {
    let mut policy = Policy::default();
    let mut undated = user("a", 0, &[2, 2, 0]);
    undated.messages.iter_mut().for_each(|message| message.time = None);
    let found = outcome(&policy, std::slice::from_ref(&undated));
    assert_eq!((found.called.users, found.load.undated, found.load.days), (1, 1, 0));
    policy.levels.review.score_min = Some(0.99);
    policy.levels.senior.score_min = Some(1.0);
    assert_eq!(outcome(&policy, &[undated]).called.users, 0);
}

/// scipy.stats.binomtest(3, 10).proportion_ci(method="wilson"), and of 0 of 908 by hand: z² / (n + z²).
#[test]
fn intervals_are_wilsons() {
    let three = share(3, 10).per_thousand;
    assert!((three.low.unwrap() - 107.789).abs() < 0.01 && (three.high.unwrap() - 603.222).abs() < 0.01, "{three:?}");
    let none = share(0, 908).per_thousand;
    assert_eq!(none.low, Some(0.0));
    assert!((none.high.unwrap() - 4.2130).abs() < 0.001, "{none:?}");
    assert_eq!(share(0, 0).per_thousand.value, None);
}

#[test]
fn a_long_life_has_more_occasions_to_be_called() {
    let mut pool = Pool::default();
    for number in 0..200 {
        // One session in two hundred is a slip of six messages at level 2: enough at any age.
        let levels = if number == 0 { [2; 6] } else { [0; 6] };
        let mut user = user(&number.to_string(), 0, &levels);
        user.messages.iter_mut().for_each(|message| message.scored.at.session = 0);
        pool.see(&user);
    }
    let policy = Policy::default();
    let called = |sessions| {
        let settings = LifeSettings { lives: 500, sessions, gap_days: 3.0, seed: 1 };
        pool.lives(&policy, settings).unwrap().ever_called
    };
    let (short, long) = (called(5), called(100));
    assert!(short.users < 40 && long.users > 100, "{short:?} {long:?}");
    let settings = LifeSettings { lives: 10, sessions: 4, gap_days: 3.0, seed: 1 };
    let lives = pool.lives(&policy, settings).unwrap();
    assert_eq!((lives.pool_sessions, lives.pool_user_messages, lives.user_messages_mean), (200, 1_200, 24.0));
    assert_eq!(lives, pool.lives(&policy, settings).unwrap(), "the same seed, the same lives");
    let many = LifeSettings { lives: 1 << 20, sessions: 100, ..settings };
    assert!(pool.lives(&policy, many).unwrap_err().contains("104857600"));
    assert!(Pool::default().lives(&policy, settings).unwrap_err().contains("hint"));
}

#[test]
fn a_threshold_is_what_few_enough_lives_reach() {
    let mut pool = Pool::default();
    // One session in fifty with a threat: of lives of ten sessions about one in five has it.
    (0..49).for_each(|i| pool.see(&user(&i.to_string(), 0, &[0, 1])));
    pool.see(&user("bad", 0, &[3]));
    let settings = LifeSettings { lives: 400, sessions: 10, gap_days: 3.0, seed: 1 };
    let kept = |ever| pool.thresholds(settings, ever).unwrap()[ArcKind::Harassment as usize];
    let max = |ever| kept(ever).watched[WATCHED_MAX];
    // Of 0.9 a half may reach it in this arc: more than do, so that the level of the others is the threshold.
    assert!(max(0.9) > 1.0 / 3.0 && max(0.9) < 0.334, "{}", max(0.9));
    assert!(max(0.1) > 1.0 && max(0.1) < 1.001, "{}", max(0.1));
    assert_eq!(watched_names("m")[WATCHED_MAX], "m, max");
}

#[test]
fn lives_are_judged_by_rules_too() {
    let mut pool = Pool::default();
    let mut innocent = user("a", 0, &[0; 4]);
    innocent.messages[2].categories = vec!["S9".into()];
    pool.see(&innocent);
    let rule = Rule {
        id: "r".into(),
        why: "w".into(),
        category: Some("S9".into()),
        level: Some(Level::Senior),
        ..Rule::default()
    };
    let policy = Policy { rules: vec![rule], ..Policy::default() };
    let settings = LifeSettings { lives: 10, sessions: 40, gap_days: 3.0, seed: 1 };
    assert_eq!(pool.lives(&policy, settings).unwrap().ever_called.users, 10);
    assert_eq!(pool.lives(&Policy::default(), settings).unwrap().ever_called.users, 0);
}

#[test]
fn who_was_called_once_is_counted_though_the_rule_no_longer_holds() {
    let rule = Rule {
        id: "now".into(),
        why: "w".into(),
        score_now_min: Some(0.3),
        level: Some(Level::Senior),
        ..Rule::default()
    };
    let mut policy = Policy { rules: vec![rule], ..Policy::default() };
    policy.levels.watch.score_min = Some(1.0);
    policy.levels.review.score_min = Some(1.0);
    policy.levels.senior.score_min = Some(1.0);
    let found = outcome(&policy, &[user("a", 0, &[&[2, 2, 2][..], &[0; 200]].concat())]);
    assert_eq!((found.called.users, found.load.busiest_day_users), (1, 1));
    assert_eq!(found.rules, [("now".to_owned(), 0)], "at the last message");
}

#[test]
fn busy_days_are_seen() {
    // Of twenty-two days two are busy, one with three users called, one with two.
    let days = [0, 0, 0, 5, 5];
    let mut users: Vec<ScoredUser> = days.iter().map(|day| user(&day.to_string(), *day, &[2, 2, 2])).collect();
    users.push(user("quiet", 0, &[0; 22]));
    let load = outcome(&Policy::default(), &users).load;
    assert_eq!((load.days, load.busiest_day_users, load.p95_a_day), (22, 3, 2));
}

#[test]
fn where_nobody_was_called_there_is_no_value_but_a_least_one() {
    let value = positive_predictive_value(&share(0, 1_000), 0.001, 0.9);
    assert_eq!(value.value, None);
    assert!(value.low.unwrap() > 0.1 && value.high == Some(1.0), "{value:?}");
}

#[test]
fn at_a_low_base_rate_most_alarms_are_false() {
    // 1 in 1,000 a case, all found, 10 of 1,000 innocents called: 1 of 11, nearly.
    let value = positive_predictive_value(&share(10, 1_000), 0.001, 1.0);
    assert!((value.value.unwrap() - 1.0 / 10.99).abs() < 1e-12, "{value:?}");
    assert!(value.low < value.value && value.value < value.high);
}

fn mean_e_values(users: &[ScoredUser]) -> Figures {
    let mut e_values = EValues::default();
    users.iter().for_each(|user| e_values.see(user));
    e_values.means()
}

fn assert_near(found: Option<f64>, by_hand: f64) {
    assert!(found.is_some_and(|found| (found - by_hand).abs() < 1e-5), "{found:?}, by hand {by_hand}");
}

/// By hand, from the shares in `arc/evidence.rs`: 0.7 + 0.3 · 0.345 / 0.930, 0.104 / 0.060 and 0.471 / 0.005 of harassment at the
/// levels 0, 1 and 2, and 0.7 + 0.3 · 0.314 / 0.950 of delusion at level 0.
const E_BY_LEVEL: [f64; 3] = [0.811_290, 1.22, 28.96];
const E_NO_DELUSION: f64 = 0.799_158;

#[test]
fn the_mean_e_value_is_that_of_all_user_messages() {
    let [zero, one, two] = E_BY_LEVEL;
    let mut first = user("a", 0, &[0, 0, 0, 2, 2]);
    first.messages[4].scored.role = Role::Assistant;
    let refused = ScoredUser { unjudged: true, ..user("r", 0, &[2, 2]) };
    let silent = ScoredUser { user_id: "s".into(), ..ScoredUser::default() };
    let means = mean_e_values(&[first.clone(), user("b", 0, &[1]), refused.clone(), silent.clone()]);
    let harassment = means.get("harassment");
    assert_near(harassment.value, (3.0 * zero + two + one) / 5.0);
    assert_near(means.get("delusion").value, E_NO_DELUSION);
    // Of two users a quarter of the draws hold the first alone, and a quarter the second.
    assert_near(harassment.low, one);
    assert_near(harassment.high, (3.0 * zero + two) / 4.0);

    let alone = mean_e_values(&[first, refused, silent]).get("harassment");
    assert_near(alone.value, (3.0 * zero + two) / 4.0);
    assert_eq!((alone.low, alone.high), (None, None), "of one user nothing can be drawn");
    assert_eq!(mean_e_values(&[]).get("harassment"), Figure::default());
}

/// 5,000 users of one message each, so many of them at each level.
fn users_at(counts: [usize; 4]) -> Vec<ScoredUser> {
    let levels = counts.iter().enumerate().flat_map(|(level, count)| std::iter::repeat_n(level, *count));
    levels.map(|level| user("u", 0, &[level])).collect()
}

#[test]
fn slips_more_often_than_assumed_lift_the_mean_above_one() {
    let assumed = mean_e_values(&users_at([4_650, 300, 25, 25])).get("harassment");
    assert_near(assumed.value, 1.0);
    assert!(assumed.low < Some(1.0) && assumed.high > Some(1.0), "{assumed:?}");
    // At twice the rate of slips: 0.925 · 0.81129 + 0.055 · 1.22 + 0.01 · (28.96 + 5.5).
    let slipping = mean_e_values(&users_at([4_625, 275, 50, 50])).get("harassment");
    assert_near(slipping.value, 1.162_143);
    // Its standard error is 0.0401, by the same shares.
    let (low, high) = (slipping.low.unwrap(), slipping.high.unwrap());
    assert!((low - (1.162_143 - 1.96 * 0.0401)).abs() < 0.015, "{slipping:?}");
    assert!((high - (1.162_143 + 1.96 * 0.0401)).abs() < 0.015, "{slipping:?}");
}

#[test]
fn users_beyond_those_drawn_apart_count_as_much() {
    let mean = mean_e_values(&users_at([10_000, 0, 50, 0])).get("harassment");
    assert_near(mean.value, (10_000.0 * E_BY_LEVEL[0] + 50.0 * E_BY_LEVEL[2]) / 10_050.0);
    assert!(mean.low < mean.value && mean.value < mean.high, "{mean:?}");
}
