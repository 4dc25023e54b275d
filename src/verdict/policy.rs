//! What an operator has decided: where levels begin, what is recommended at each, and the rules beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use super::{Finding, Level, Reason, Verdict};
use crate::arc::{ARC_SCORE_MIN, ArcKind, ArcState, MessageAt, THREAT_MIN};

/// The form of the file that this build reads.
pub const POLICY_SCHEMA_VERSION: u32 = 1;
/// Score of an arc at α = 5%: the default policy's `review`.
const REVIEW_SCORE_MIN: f32 = 0.398;
/// Rules of one policy.
const RULES_MAX: usize = 100;
/// Messages that one finding names.
const MESSAGES_NAMED_MAX: usize = 12;
/// Characters of a name, a version, an id.
const NAME_CHARS_MAX: usize = 64;
/// Characters of a description or of a rule's reason.
const WORDS_CHARS_MAX: usize = 400;

/// What a policy may recommend. Nothing is done by this program: a recommendation goes to the people and
/// the product that can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mitigation {
    /// Fewer messages an hour.
    RateLimit,
    /// What the assistant remembers of earlier sessions is switched off.
    MemoryOff,
    /// Role play and custom personas are switched off.
    PersonaRestricted,
    /// What the case would use (drafting to third parties, search for people, images) is switched off.
    FeaturesRestricted,
    /// Capabilities that are paid for are paused.
    PaidPaused,
    /// Nothing that was restricted comes back before a person has read the case.
    ReviewBeforeRestoring,
}

impl Mitigation {
    /// The name as it stands in policies and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate-limit",
            Self::MemoryOff => "memory-off",
            Self::PersonaRestricted => "persona-restricted",
            Self::FeaturesRestricted => "features-restricted",
            Self::PaidPaused => "paid-paused",
            Self::ReviewBeforeRestoring => "review-before-restoring",
        }
    }
}

impl fmt::Display for Mitigation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What becomes of a reply while no verdict can be had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It goes out.
    #[default]
    Open,
    /// It is held.
    Closed,
}

/// One level of a policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelSettings {
    /// The arc's score from which the level holds; of `watch`, `review` and `senior`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score_min: Option<f32>,
    /// The probability of an imminent threat from which it holds at any score; of `urgent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imminent_min: Option<f32>,
    #[serde(default)]
    pub mitigations: BTreeSet<Mitigation>,
    /// For a user whose last verdict was this level.
    #[serde(default)]
    pub on_failure: OnFailure,
}

/// Settings of every level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    pub none: LevelSettings,
    pub watch: LevelSettings,
    pub review: LevelSettings,
    pub senior: LevelSettings,
    pub urgent: LevelSettings,
}

/// An operator's decisions. `policies/default.toml` shows the file, line by line.
///
/// The default levels are the scores of a false-alarm probability α per history and arc, as [`crate::arc`]
/// promises it of a calibrated model: 20% for `watch`, 5% for `review`, 1% for `senior`; `urgent` goes by single messages, and has none. `watch` and `senior` were chosen on
/// the development histories, whose innocents are hard on purpose, `review` by held-out public talk as well (`models/README.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub schema_version: u32,
    pub name: String,
    pub version: String,
    #[serde(default)]
    pub description: String,
    pub levels: Levels,
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// Categories that a guard named, by id: how often, and at which messages first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named(BTreeMap<String, (usize, Vec<MessageAt>)>);

impl Named {
    /// Takes in the categories of one more message.
    pub fn add(&mut self, at: MessageAt, ids: &[String]) {
        for id in ids {
            let (count, first) = self.0.entry(id.clone()).or_default();
            *count += 1;
            if first.len() < MESSAGES_NAMED_MAX {
                first.push(at);
            }
        }
    }

    pub(super) fn get(&self, id: &str) -> (usize, &[MessageAt]) {
        self.0.get(id).map_or((0, &[]), |(count, first)| (*count, first))
    }
}

/// What a policy judges: the state of a user's arcs, and what guards named.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub arcs: &'a [ArcState],
    pub named: &'a Named,
}

impl Default for Policy {
    fn default() -> Self {
        let at = |score_min| LevelSettings { score_min: Some(score_min), ..LevelSettings::default() };
        let fed = |id: &str, why: &str, arc, mitigations: &[Mitigation]| Rule {
            id: id.into(),
            why: why.into(),
            arc: Some(arc),
            score_min: Some(REVIEW_SCORE_MIN),
            assistant_stance_min: Some(0.4),
            mitigations: mitigations.iter().copied().collect(),
            ..Rule::default()
        };
        Self {
            schema_version: POLICY_SCHEMA_VERSION,
            name: "default".into(),
            version: "5".into(),
            description: "People are asked to read; features are recommended to be taken back where the assistant has a part in it.".into(),
            levels: Levels {
                none: LevelSettings::default(),
                watch: at(ARC_SCORE_MIN),
                review: at(REVIEW_SCORE_MIN),
                senior: LevelSettings { mitigations: [Mitigation::RateLimit].into(), ..at(0.5) },
                urgent: LevelSettings {
                    imminent_min: Some(0.3),
                    mitigations: [
                        Mitigation::RateLimit,
                        Mitigation::FeaturesRestricted,
                        Mitigation::ReviewBeforeRestoring,
                    ]
                    .into(),
                    on_failure: OnFailure::Closed,
                    ..LevelSettings::default()
                },
            },
            rules: vec![
                fed(
                    "assistant-feeds-belief",
                    "the assistant goes along with a belief that hardens",
                    ArcKind::Delusion,
                    &[Mitigation::MemoryOff, Mitigation::PersonaRestricted],
                ),
                fed(
                    "assistant-helps-targeting",
                    "the assistant lends a hand against a person",
                    ArcKind::Harassment,
                    &[Mitigation::FeaturesRestricted],
                ),
            ],
        }
    }
}

impl Levels {
    pub fn of(&self, level: Level) -> &LevelSettings {
        match level {
            Level::None => &self.none,
            Level::Watch => &self.watch,
            Level::Review => &self.review,
            Level::Senior => &self.senior,
            Level::Urgent => &self.urgent,
        }
    }
}

impl Policy {
    /// The false-alarm probability α that an arc's score stands for: the share, 0 to 1, of innocent histories that ever come to it, at most.
    /// [`crate::arc`]'s formula turned round: S = score · ln 100 / (1 − score), α = 1 / (e^S − 1). It holds for one arc and a calibrated
    /// model; of the odds of an open case it is measured, not proven. `None` where it would be 1 or more, and so promise nothing; of a score of
    /// 1, which no arc has, 0.
    pub fn alpha(score: f32) -> Option<f64> {
        let nats = 100f64.ln() * f64::from(score) / (1.0 - f64::from(score));
        Some(1.0 / nats.exp_m1()).filter(|alpha| (0.0..1.0).contains(alpha))
    }

    /// The arc's score from which a level holds; more than 1, which no score is, where none does.
    pub fn score_min(&self, level: Level) -> f32 {
        self.levels.of(level).score_min.unwrap_or(f32::INFINITY)
    }

    /// The probability of an imminent threat from which the level is `urgent`.
    pub fn imminent_min(&self) -> f32 {
        self.levels.urgent.imminent_min.unwrap_or(f32::INFINITY)
    }

    /// The level of one arc by its score and its threats, without the rules.
    pub fn arc_level(&self, arc: &ArcState) -> Level {
        let reached = |level: &Level| {
            let settings = self.levels.of(*level);
            settings.score_min.is_some_and(|min| arc.score() >= min)
                || settings.imminent_min.is_some_and(|min| arc.imminent_max() >= min)
        };
        Level::ALL.into_iter().rev().find(reached).unwrap_or(Level::None)
    }

    /// The level that all of it comes to: that of [`Policy::judge`], without its reasons.
    pub fn level(&self, facts: &Facts) -> Level {
        let by_arcs = facts.arcs.iter().map(|arc| self.arc_level(arc));
        let by_rules = self.rules.iter().filter(|rule| rule.level.is_some());
        let by_rules = by_rules.filter(|rule| rule.holds_for(facts).next().is_some()).filter_map(|rule| rule.level);
        by_arcs.chain(by_rules).max().unwrap_or(Level::None)
    }

    /// What all of it comes to.
    pub fn judge(&self, facts: &Facts) -> Verdict {
        let mut findings: Vec<Finding> = facts.arcs.iter().flat_map(|arc| self.by_level(arc)).collect();
        for rule in &self.rules {
            findings.extend(rule.holds_for(facts).map(|arc| rule.finding(arc, facts, &self.levels)));
        }
        let level = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::None);
        let mitigations = findings.iter().flat_map(|finding| finding.mitigations.iter().copied());
        let mitigations = mitigations.chain(self.levels.of(level).mitigations.iter().copied()).collect();
        Verdict { level, mitigations, on_failure: self.levels.of(level).on_failure, findings }
    }

    /// Its threats, and the level of its score: a threat does not hide what the arc rests on.
    fn by_level(&self, arc: &ArcState) -> impl Iterator<Item = Finding> {
        let finding = |level, reason, messages: Vec<MessageAt>| {
            let mitigations = self.levels.of(level).mitigations.clone();
            Finding { level, arc: Some(arc.kind()), reason, mitigations, messages_count: messages.len(), messages }
        };
        let threat = arc.likeliest_threat().filter(|threat| threat.probability >= self.imminent_min());
        let by_threat = threat.map(|threat| {
            let reason = Reason::Imminent { probability: threat.probability, toward_person: threat.toward_person };
            finding(Level::Urgent, reason, arc.threats(self.imminent_min()))
        });
        let mut scored = [Level::Senior, Level::Review, Level::Watch].into_iter();
        let scored = scored.find(|level| arc.score() >= self.score_min(*level));
        let by_score = scored.map(|level| finding(level, Reason::Score { score: arc.score() }, carriers(arc)));
        by_threat.into_iter().chain(by_score)
    }

    /// # Errors
    /// In words, where a rule can never hold with a model that names no categories, such as one with message heads.
    pub fn check_without_categories(&self) -> Result<(), String> {
        let Some(rule) = self.rules.iter().find(|rule| rule.category.is_some()) else { return Ok(()) };
        Err(format!(
            "rule {} of the policy waits for a category, and this model names none; hint: leave the rule out, or use a guard that \
             answers in words (score --model)",
            rule.id
        ))
    }

    /// # Errors
    /// Naming the value, the limit and what to do, where a value is out of its range or two contradict each other.
    pub fn check(&self) -> Result<(), String> {
        if self.schema_version != POLICY_SCHEMA_VERSION {
            let found = self.schema_version;
            return Err(format!(
                "schema_version is {found}, this build reads {POLICY_SCHEMA_VERSION}; hint: `throughline policy show`"
            ));
        }
        named("name", &self.name)?;
        named("version", &self.version)?;
        worded("description", &self.description)?;
        self.check_levels()?;
        if self.rules.len() > RULES_MAX {
            return Err(format!("{} rules, the limit is {RULES_MAX}; hint: merge some", self.rules.len()));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.check().map_err(|error| format!("rule {} ({:?}): {error}", index + 1, rule.id))?;
            if self.rules[..index].iter().any(|other| other.id == rule.id) {
                return Err(format!("rule {}: id = {:?} is there twice; hint: ids are unique", index + 1, rule.id));
            }
        }
        Ok(())
    }

    fn check_levels(&self) -> Result<(), String> {
        let mut before = ("none", 0.0);
        for level in [Level::Watch, Level::Review, Level::Senior] {
            let key = format!("levels.{level}.score_min");
            let Some(min) = self.levels.of(level).score_min else {
                return Err(format!("{key} is missing; hint: a score from 0 to 1, or 1 to switch the level off"));
            };
            share(&key, min)?;
            if min < before.1 {
                let (lower, value) = before;
                return Err(format!("{key} is {min}, less than {lower}'s {value}; hint: levels rise with the score"));
            }
            before = (level.as_str(), min);
        }
        let Some(min) = self.levels.urgent.imminent_min else {
            return Err("levels.urgent.imminent_min is missing; hint: a probability from 0 to 1".into());
        };
        share("levels.urgent.imminent_min", min)?;
        if min < THREAT_MIN {
            return Err(format!(
                "levels.urgent.imminent_min is {min}, the limit is {THREAT_MIN}; hint: what is less likely is no threat"
            ));
        }
        for level in Level::ALL {
            let settings = self.levels.of(level);
            let (score, threat) = match level {
                Level::None => (false, false),
                Level::Urgent => (false, true),
                _ => (true, false),
            };
            if settings.score_min.is_some() && !score {
                return Err(format!(
                    "levels.{level} has a score_min, which only watch, review and senior have; hint: leave it out"
                ));
            }
            if settings.imminent_min.is_some() && !threat {
                return Err(format!("levels.{level} has an imminent_min, which only urgent has; hint: leave it out"));
            }
        }
        Ok(())
    }
}

/// The messages that carry an arc, in the order of the history.
pub(super) fn carriers(arc: &ArcState) -> Vec<MessageAt> {
    let mut messages: Vec<MessageAt> = arc.evidence().iter().map(|evidence| evidence.at).collect();
    messages.sort();
    messages
}

pub(super) fn share(key: &str, value: f32) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(format!("{key} is {value}, the limits are 0 and 1; hint: scores and probabilities lie between"))
}

pub(super) fn named(key: &str, value: &str) -> Result<(), String> {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain && (1..=NAME_CHARS_MAX).contains(&value.len()) {
        return Ok(());
    }
    Err(format!("{key} = {value:?} is no name; hint: 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_` or `.`"))
}

pub(super) fn worded(key: &str, value: &str) -> Result<(), String> {
    let found = value.chars().count();
    if found > WORDS_CHARS_MAX {
        return Err(format!("{key} has {found} characters, the limit is {WORDS_CHARS_MAX}; hint: shorten it"));
    }
    match value.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("{key} has the character {c:?}; hint: write it on one line")),
        None => Ok(()),
    }
}
