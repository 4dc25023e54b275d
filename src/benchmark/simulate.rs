//! What a policy would have done on transcripts that were scored: alarms, the load on reviewers, what is recommended.
//!
//! [`Pool::lives`] asks the same of long lives put together from innocent sessions.
//!
//! Nothing is read by a model: [`Simulation::see`] walks a user's message scores through the arcs again and
//! asks the policy after every message of the user, as a sidecar would have.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::detector::{ScoredMessage, ScoredUser, UserMessage};
use super::metrics::Figure;
use super::metrics::bootstrap::SplitMix64;
use crate::arc::{ArcKind, ArcState, MessageAt, Observation};
use crate::transcript::Role;
use crate::verdict::{Facts, Level, Mitigation, Policy, Reason, Verdict};

/// The standard normal quantile of a two-sided interval of 95%.
const Z95: f64 = 1.959_963_984_540_054;

/// Messages of users that lives may be put together from.
const POOL_MESSAGES_MAX: usize = 10_000_000;

/// Long lives of innocent users, put together from sessions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LifeSettings {
    pub lives: usize,
    /// Sessions of each, drawn with replacement.
    pub sessions: usize,
    /// Between the beginnings of two sessions.
    pub gap_days: f64,
    pub seed: u64,
}

/// What became of innocent lives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lives {
    pub settings: LifeSettings,
    /// Sessions that were drawn from, and the user messages in them.
    pub pool_sessions: usize,
    pub pool_user_messages: usize,
    /// User messages of a life, the mean.
    pub user_messages_mean: f64,
    /// Lives by the highest level they ever came to, the highest first.
    pub ever: Vec<(Level, Share)>,
    /// Lives that ever came to `review` or above.
    pub ever_called: Share,
}

/// Sessions of users that are taken to be innocent.
#[derive(Debug, Default)]
pub struct Pool {
    sessions: Vec<Vec<UserMessage>>,
    user_messages: usize,
}

/// How many users, and of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    pub users: u64,
    /// Of 1,000 users, with a 95% interval (Wilson 1927, *Probable inference, the law of succession, and statistical
    /// inference*).
    pub per_thousand: Figure,
}

/// Reviewers' load: users who reach `review` for the first time, by day (UTC).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Load {
    /// From the first message to the last.
    pub days: u64,
    pub mean_a_day: f64,
    /// On nineteen days of twenty no more than this.
    pub p95_a_day: u64,
    pub busiest_day: Option<Date>,
    pub busiest_day_users: u64,
    /// Called at a message of unknown time.
    pub undated: u64,
}

/// What one policy came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub users: u64,
    pub user_messages: u64,
    pub first_message: Option<Timestamp>,
    pub last_message: Option<Timestamp>,
    /// Users by their level, the highest first.
    pub levels: Vec<(Level, Share)>,
    /// Users at `review` or above.
    pub called: Share,
    pub load: Load,
    /// Users by rule that held, in the policy's order.
    pub rules: Vec<(String, u64)>,
    /// Users by recommended mitigation.
    pub mitigations: BTreeMap<Mitigation, u64>,
}

/// A policy on its way through users.
#[derive(Debug)]
pub struct Simulation<'a> {
    policy: &'a Policy,
    users: u64,
    user_messages: u64,
    times: Option<(Timestamp, Timestamp)>,
    levels: BTreeMap<Level, u64>,
    called_by_day: BTreeMap<Date, u64>,
    undated: u64,
    rules: BTreeMap<String, u64>,
    mitigations: BTreeMap<Mitigation, u64>,
}

impl<'a> Simulation<'a> {
    pub fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            users: 0,
            user_messages: 0,
            times: None,
            levels: BTreeMap::new(),
            called_by_day: BTreeMap::new(),
            undated: 0,
            rules: BTreeMap::new(),
            mitigations: BTreeMap::new(),
        }
    }

    /// Takes in everything of one more user.
    pub fn see(&mut self, user: &ScoredUser) {
        self.users += 1;
        let (verdict, called) = self.walk(user);
        *self.levels.entry(verdict.level).or_default() += 1;
        for mitigation in &verdict.mitigations {
            *self.mitigations.entry(*mitigation).or_default() += 1;
        }
        let mut held: Vec<&str> = verdict.findings.iter().filter_map(|finding| rule_id(&finding.reason)).collect();
        held.sort_unstable();
        held.dedup();
        for id in held {
            *self.rules.entry(id.to_owned()).or_default() += 1;
        }
        match called {
            Some(Some(time)) => *self.called_by_day.entry(day(time)).or_default() += 1,
            Some(None) => self.undated += 1,
            None => {}
        }
    }

    /// The verdict at the end, and the time at which it was first `review` or above, if ever.
    fn walk(&mut self, user: &ScoredUser) -> (Verdict, Option<Option<Timestamp>>) {
        let mut arcs = ArcKind::ALL.map(ArcState::new);
        let mut categories: Vec<(MessageAt, &str)> = Vec::new();
        let mut called = None;
        for message in &user.messages {
            let ScoredMessage { at, role, score } = message.scored;
            let from_user = role == Role::User;
            for arc in &mut arcs {
                arc.step(&Observation { at, time: message.time, from_user, score });
            }
            categories.extend(message.categories.iter().map(|id| (at, id.as_str())));
            self.times = message.time.map_or(self.times, |time| {
                let (first, last) = self.times.unwrap_or((time, time));
                Some((first.min(time), last.max(time)))
            });
            if from_user {
                self.user_messages += 1;
                if called.is_none() && self.judge(&arcs, &categories).level >= Level::Review {
                    called = Some(message.time);
                }
            }
        }
        let verdict = self.judge(&arcs, &categories);
        // A rule on the assistant's stance may hold at its last reply only.
        if called.is_none() && verdict.level >= Level::Review {
            called = Some(user.messages.last().and_then(|message| message.time));
        }
        (verdict, called)
    }

    fn judge(&self, arcs: &[ArcState], categories: &[(MessageAt, &str)]) -> Verdict {
        self.policy.judge(&Facts { arcs, categories })
    }

    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        let at = |level: &Level| self.levels.get(level).copied().unwrap_or(0);
        let levels = Level::ALL.iter().rev().map(|level| (*level, share(at(level), self.users)));
        let called = Level::ALL.iter().filter(|level| **level >= Level::Review).map(at).sum();
        Outcome {
            users: self.users,
            user_messages: self.user_messages,
            first_message: self.times.map(|(first, _)| first),
            last_message: self.times.map(|(_, last)| last),
            levels: levels.collect(),
            called: share(called, self.users),
            load: self.load(),
            rules: self
                .policy
                .rules
                .iter()
                .map(|rule| (rule.id.clone(), self.rules.get(&rule.id).copied().unwrap_or(0)))
                .collect(),
            mitigations: self.mitigations.clone(),
        }
    }

    fn load(&self) -> Load {
        let Some((first, last)) = self.times else { return Load { undated: self.undated, ..Load::default() } };
        let days = (day(first).until(day(last)).map_or(0, |span| i64::from(span.get_days())) + 1).max(1) as u64;
        let busiest = self.called_by_day.iter().max_by_key(|(date, users)| (**users, std::cmp::Reverse(**date)));
        Load {
            days,
            mean_a_day: self.called_by_day.values().sum::<u64>() as f64 / days as f64,
            p95_a_day: self.quantile_a_day(days),
            busiest_day: busiest.map(|(date, _)| *date),
            busiest_day_users: busiest.map_or(0, |(_, users)| *users),
            undated: self.undated,
        }
    }

    /// The least load that is not exceeded on 95% of the days; most days have none.
    fn quantile_a_day(&self, days: u64) -> u64 {
        let mut loads: Vec<u64> = self.called_by_day.values().copied().collect();
        loads.sort_unstable_by(|a, b| b.cmp(a));
        let above = days / 20;
        loads.get(above as usize).copied().unwrap_or(0)
    }
}

/// The share of cases among those called, where one user in `1 / base_rate` is a case, `recall` of these are called, and
/// the users simulated are innocent (or so nearly that it does not matter): `π r / (π r + (1 − π) f)` (Bayes), with an
/// interval from that of `f`.
pub fn positive_predictive_value(called: &Share, base_rate: f64, recall: f64) -> Figure {
    let value = |false_alarms: Option<f64>| {
        let (cases, others) = (base_rate * recall, (1.0 - base_rate) * false_alarms? / 1_000.0);
        (cases + others > 0.0).then(|| cases / (cases + others))
    };
    let Figure { value: middle, low, high } = called.per_thousand;
    Figure { value: value(middle), low: value(high), high: value(low) }
}

impl Pool {
    /// Takes in the sessions of one more user; `false` where there is no more room.
    pub fn see(&mut self, user: &ScoredUser) -> bool {
        for session in user.messages.chunk_by(|a, b| a.scored.at.session == b.scored.at.session) {
            self.user_messages += session.iter().filter(|message| message.scored.role == Role::User).count();
            self.sessions.push(session.to_vec());
        }
        self.user_messages <= POOL_MESSAGES_MAX
    }

    /// How many lives of so many sessions, drawn from these with replacement, ever come to a level.
    ///
    /// A message keeps the score it had where it was read: what a window over two neighbours of different users would
    /// make of it is not asked. Lives are drawn apart from each other, so that intervals are those of a share; that all
    /// are drawn from one pool they do not know.
    pub fn lives(&self, policy: &Policy, settings: LifeSettings) -> Lives {
        let mut random = SplitMix64::new(settings.seed);
        let (mut levels, mut user_messages) = (BTreeMap::<Level, u64>::new(), 0);
        for _ in 0..settings.lives {
            let (level, read) = self.life(policy, settings, &mut random);
            *levels.entry(level).or_default() += 1;
            user_messages += read;
        }
        let at = |level: &Level| levels.get(level).copied().unwrap_or(0);
        let lives = settings.lives as u64;
        let called = Level::ALL.iter().filter(|level| **level >= Level::Review).map(at).sum();
        Lives {
            settings,
            pool_sessions: self.sessions.len(),
            pool_user_messages: self.user_messages,
            user_messages_mean: user_messages as f64 / settings.lives.max(1) as f64,
            ever: Level::ALL.iter().rev().map(|level| (*level, share(at(level), lives))).collect(),
            ever_called: share(called, lives),
        }
    }

    /// The highest level of one life by its arcs alone, and its user messages.
    fn life(&self, policy: &Policy, settings: LifeSettings, random: &mut SplitMix64) -> (Level, usize) {
        let mut arcs = ArcKind::ALL.map(ArcState::new);
        let mut user_messages = 0;
        for session in (0..settings.sessions).filter(|_| !self.sessions.is_empty()) {
            let seconds = (session as f64 * settings.gap_days * 86_400.0) as i64;
            let time = Timestamp::from_second(seconds).ok();
            for message in &self.sessions[random.below(self.sessions.len())] {
                let ScoredMessage { at, role, score } = message.scored;
                let at = MessageAt { session, message: at.message };
                user_messages += usize::from(role == Role::User);
                for arc in &mut arcs {
                    arc.step(&Observation { at, time, from_user: role == Role::User, score });
                }
            }
        }
        (arcs.iter().map(|arc| policy.level(arc)).max().unwrap_or(Level::None), user_messages)
    }
}

fn rule_id(reason: &Reason) -> Option<&str> {
    match reason {
        Reason::Rule { id, .. } => Some(id),
        Reason::Score { .. } | Reason::Imminent { .. } => None,
    }
}

fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

fn share(users: u64, of: u64) -> Share {
    if of == 0 {
        return Share { users, per_thousand: Figure::default() };
    }
    let (n, p) = (of as f64, users as f64 / of as f64);
    let middle = (p + Z95 * Z95 / (2.0 * n)) / (1.0 + Z95 * Z95 / n);
    let half = Z95 / (1.0 + Z95 * Z95 / n) * (p * (1.0 - p) / n + Z95 * Z95 / (4.0 * n * n)).sqrt();
    let thousand = |share: f64| Some(1_000.0 * share.clamp(0.0, 1.0));
    // At the ends the interval is closed there by definition; the sum leaves a trace of rounding.
    let low = if users == 0 { 0.0 } else { middle - half };
    let high = if users == of { 1.0 } else { middle + half };
    Share { users, per_thousand: Figure { value: thousand(p), low: thousand(low), high: thousand(high) } }
}

#[cfg(test)]
mod tests {
    use super::super::detector::UserMessage;
    use super::*;
    use crate::scoring::MessageScore;

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
        ScoredUser { user_id: id.into(), messages: levels.iter().enumerate().map(message).collect() }
    }

    fn outcome(policy: &Policy, users: &[ScoredUser]) -> Outcome {
        let mut simulation = Simulation::new(policy);
        users.iter().for_each(|user| simulation.see(user));
        simulation.outcome()
    }

    #[test]
    fn alarms_are_counted_on_the_day_they_come() {
        let policy = Policy::default();
        let users =
            [user("a", 0, &[0, 2, 2, 2, 0, 0, 0, 0, 0, 0]), user("b", 1, &[2, 2, 2, 0]), user("c", 0, &[0; 20])];
        let found = outcome(&policy, &users);
        assert_eq!((found.users, found.user_messages, found.called.users), (3, 34, 2));
        assert_eq!(found.load.days, 20);
        assert_eq!(found.load.mean_a_day, 0.1);
        // Both after their second message of level 2, which is the third day of either.
        assert_eq!(found.load.busiest_day.unwrap().to_string(), "2024-10-06");
        assert_eq!((found.load.busiest_day_users, found.load.p95_a_day, found.load.undated), (2, 0, 0));
        assert_eq!(found.levels.iter().map(|(_, share)| share.users).sum::<u64>(), 3);
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
        assert!(
            (three.low.unwrap() - 107.789).abs() < 0.01 && (three.high.unwrap() - 603.222).abs() < 0.01,
            "{three:?}"
        );
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
            assert!(pool.see(&user));
        }
        let policy = Policy::default();
        let called = |sessions| {
            let settings = LifeSettings { lives: 500, sessions, gap_days: 3.0, seed: 1 };
            pool.lives(&policy, settings).ever_called
        };
        let (short, long) = (called(5), called(100));
        assert!(short.users < 40 && long.users > 100, "{short:?} {long:?}");
        assert_eq!(called(0).users, 0);
        let settings = LifeSettings { lives: 10, sessions: 4, gap_days: 3.0, seed: 1 };
        let lives = pool.lives(&policy, settings);
        assert_eq!((lives.pool_sessions, lives.pool_user_messages, lives.user_messages_mean), (200, 1_200, 24.0));
        assert_eq!(lives, pool.lives(&policy, settings), "the same seed, the same lives");
    }

    #[test]
    fn at_a_low_base_rate_most_alarms_are_false() {
        // 1 in 1,000 a case, all found, 10 of 1,000 innocents called: 1 of 11, nearly.
        let value = positive_predictive_value(&share(10, 1_000), 0.001, 1.0);
        assert!((value.value.unwrap() - 1.0 / 10.99).abs() < 1e-12, "{value:?}");
        assert!(value.low < value.value && value.value < value.high);
    }
}
