//! What a policy would have done on transcripts that were scored: alarms, the load on reviewers, what is recommended.
//!
//! [`lives::Pool`] asks the same of long lives put together from innocent sessions; [`e_values::EValues`] asks whether what the
//! arcs' promise of few false alarms assumes is true of these users.
//!
//! Nothing is read by a model: [`Simulation::see`] walks a user's message scores through the arcs again and
//! asks the policy after every message, as a sidecar would have: "called" is who ever came to `review` or above.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::detector::{ScoredMessage, ScoredUser};
use super::metrics::Figure;
use crate::arc::{ArcKind, ArcState, Observation};
use crate::transcript::Role;
use crate::verdict::{Facts, Level, Mitigation, Named, Policy, Reason, Verdict};

pub mod e_values;
pub mod lives;

/// The standard normal quantile of a two-sided interval of 95%.
const Z95: f64 = 1.959_963_984_540_054;

/// How many are at a level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AtLevel {
    pub level: Level,
    #[serde(flatten)]
    pub share: Share,
}

/// How many users, and of a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    pub users: u64,
    /// Of 1,000 users, with a 95% interval (Wilson 1927, *Probable inference, the law of succession, and statistical
    /// inference*).
    pub per_thousand: Figure,
}

/// Reviewers' load: users who reach `review` for the first time, by day (UTC). Days are those on which anything was said.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Load {
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
    /// Users by the highest level they ever came to, the highest first.
    pub levels: Vec<AtLevel>,
    /// Users who ever came to `review` or above.
    pub called: Share,
    pub load: Load,
    /// Users by rule that holds at their last message, in the policy's order.
    pub rules: Vec<(String, u64)>,
    /// Users by what is recommended at their last message.
    pub mitigations: BTreeMap<Mitigation, u64>,
    /// Users left out: the guard refused to judge any of their messages.
    pub unjudged: u64,
}

/// A policy on its way through users.
#[derive(Debug)]
pub struct Simulation<'a> {
    policy: &'a Policy,
    users: u64,
    user_messages: u64,
    times: Option<(Timestamp, Timestamp)>,
    days: BTreeSet<Date>,
    unjudged: u64,
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
            days: BTreeSet::new(),
            unjudged: 0,
            levels: BTreeMap::new(),
            called_by_day: BTreeMap::new(),
            undated: 0,
            rules: BTreeMap::new(),
            mitigations: BTreeMap::new(),
        }
    }

    /// Takes in everything of one more user.
    pub fn see(&mut self, user: &ScoredUser) {
        if user.unjudged {
            self.unjudged += 1;
            return;
        }
        self.users += 1;
        let mut life = Life::new();
        for message in &user.messages {
            life.hear(self.policy, message.scored, message.time, &message.categories);
            self.user_messages += u64::from(message.scored.role == Role::User);
            if let Some(time) = message.time {
                let (first, last) = self.times.unwrap_or((time, time));
                self.times = Some((first.min(time), last.max(time)));
                self.days.insert(day(time));
            }
        }
        *self.levels.entry(life.level_max).or_default() += 1;
        match life.called {
            Some(Some(time)) => *self.called_by_day.entry(day(time)).or_default() += 1,
            Some(None) => self.undated += 1,
            None => {}
        }
        self.count_end(&self.policy.judge(&life.facts()));
    }

    fn count_end(&mut self, verdict: &Verdict) {
        for mitigation in &verdict.mitigations {
            *self.mitigations.entry(*mitigation).or_default() += 1;
        }
        let held: BTreeSet<&str> = verdict.findings.iter().filter_map(|finding| rule_id(&finding.reason)).collect();
        for id in held {
            *self.rules.entry(id.to_owned()).or_default() += 1;
        }
    }

    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        let held = |id: &String| self.rules.get(id).copied().unwrap_or(0);
        Outcome {
            users: self.users,
            user_messages: self.user_messages,
            first_message: self.times.map(|(first, _)| first),
            last_message: self.times.map(|(_, last)| last),
            levels: by_level(&self.levels, self.users),
            called: called(&self.levels, self.users),
            load: self.load(),
            rules: self.policy.rules.iter().map(|rule| (rule.id.clone(), held(&rule.id))).collect(),
            mitigations: self.mitigations.clone(),
            unjudged: self.unjudged,
        }
    }

    fn load(&self) -> Load {
        let days = self.days.len() as u64;
        let busiest = self.called_by_day.iter().max_by_key(|(date, users)| (**users, std::cmp::Reverse(**date)));
        Load {
            days,
            mean_a_day: self.called_by_day.values().sum::<u64>() as f64 / days.max(1) as f64,
            p95_a_day: self.quantile_a_day(days),
            busiest_day: busiest.map(|(date, _)| *date),
            busiest_day_users: busiest.map_or(0, |(_, users)| *users),
            undated: self.undated,
        }
    }

    /// The least load that is not exceeded on 95% of the days; on most nobody may be called.
    fn quantile_a_day(&self, days: u64) -> u64 {
        let mut loads: Vec<u64> = self.called_by_day.values().copied().collect();
        loads.sort_unstable_by(|a, b| b.cmp(a));
        loads.get((days / 20) as usize).copied().unwrap_or(0)
    }
}

/// One user's arcs on their way, asked after every message.
struct Life {
    arcs: [ArcState; 2],
    named: Named,
    level_max: Level,
    /// The time, where it is known, of the message at which the level was `review` or above for the first time.
    called: Option<Option<Timestamp>>,
}

impl Life {
    fn new() -> Self {
        Self { arcs: ArcKind::ALL.map(ArcState::new), named: Named::default(), level_max: Level::None, called: None }
    }

    fn facts(&self) -> Facts<'_> {
        Facts { arcs: &self.arcs, named: &self.named }
    }

    fn hear(&mut self, policy: &Policy, scored: ScoredMessage, time: Option<Timestamp>, categories: &[String]) {
        let ScoredMessage { at, role, score } = scored;
        let from_user = role == Role::User;
        self.arcs.iter_mut().for_each(|arc| arc.step(&Observation { at, time, from_user, score }));
        self.named.add(at, categories);
        self.level_max = self.level_max.max(policy.level(&self.facts()));
        if self.called.is_none() && self.level_max >= Level::Review {
            self.called = Some(time);
        }
    }
}

fn by_level(levels: &BTreeMap<Level, u64>, of: u64) -> Vec<AtLevel> {
    let at = |level: Level| AtLevel { level, share: share(levels.get(&level).copied().unwrap_or(0), of) };
    Level::ALL.into_iter().rev().map(at).collect()
}

fn called(levels: &BTreeMap<Level, u64>, of: u64) -> Share {
    share(levels.iter().filter(|(level, _)| **level >= Level::Review).map(|(_, users)| users).sum(), of)
}

/// The share of cases among those called, where one user in `1 / base_rate` is a case, `recall` of these are called, and
/// the users simulated are innocent (or so nearly that it does not matter): `π r / (π r + (1 − π) f)` (Bayes), with an
/// interval from that of `f`. Where nobody was called there is no value, only the interval.
pub fn positive_predictive_value(called: &Share, base_rate: f64, recall: f64) -> Figure {
    let value = |false_alarms: Option<f64>| {
        let (cases, others) = (base_rate * recall, (1.0 - base_rate) * false_alarms? / 1_000.0);
        (cases + others > 0.0).then(|| cases / (cases + others))
    };
    let Figure { value: middle, low, high } = called.per_thousand;
    Figure { value: value(middle.filter(|_| called.users > 0)), low: value(high), high: value(low) }
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
mod tests;
