//! Long lives of innocent users, put together from sessions that were scored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{AtLevel, Life, Share, by_level, called};
use crate::arc::{ArcKind, MessageAt};
use crate::benchmark::detector::{ScoredMessage, ScoredUser, UserMessage, WATCHED, WATCHED_MAX, Watch};
use crate::benchmark::metrics::bootstrap::SplitMix64;
use crate::benchmark::metrics::risk::failures_allowed;
use crate::transcript::Role;
use crate::verdict::{Level, Policy};

mod late;

pub use late::{Before, Late};

/// Messages that lives may be put together from.
const POOL_MESSAGES_MAX: usize = 5_000_000;
/// Sessions of all lives together.
const LIFE_SESSIONS_MAX: usize = 20_000_000;
/// That a threshold by Learn then Test holds.
const LEARNED_CONFIDENCE: f64 = 0.95;

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
    /// Users and sessions that were drawn from, and the user messages in them.
    pub pool_users: usize,
    pub pool_sessions: usize,
    pub pool_user_messages: usize,
    /// User messages of a life, the mean.
    pub user_messages_mean: f64,
    /// Lives by the highest level they ever came to, the highest first.
    pub ever: Vec<AtLevel>,
    /// Lives that ever came to `review` or above.
    pub ever_called: Share,
}

/// Thresholds of one arc that innocent lives keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeptThresholds {
    /// Of each detector of a [`Watch`]: the least that few enough of the lives drawn ever reach.
    pub watched: [f64; WATCHED],
    /// Of the highest message: the least of which it may be said that few enough of all lives like these ever reach it, with 95%
    /// confidence in each arc; `None` where too few were drawn to say so of any.
    pub learned: Option<f64>,
}

/// Sessions of users that are taken to be innocent.
#[derive(Debug, Default)]
pub struct Pool {
    sessions: Vec<Vec<UserMessage>>,
    users: usize,
    user_messages: usize,
    /// Of all roles, those for which there was no more room included.
    messages: usize,
}

impl Pool {
    /// Takes in the sessions of one more user, while there is room.
    pub fn see(&mut self, user: &ScoredUser) {
        self.messages += user.messages.len();
        if self.messages > POOL_MESSAGES_MAX || user.unjudged {
            return;
        }
        self.users += 1;
        for session in user.messages.chunk_by(|a, b| a.scored.at.session == b.scored.at.session) {
            self.user_messages += session.iter().filter(|message| message.scored.role == Role::User).count();
            self.sessions.push(session.to_vec());
        }
    }

    /// How many lives of so many sessions, drawn from these with replacement, ever come to a level.
    ///
    /// A message keeps the score it had where it was read: what a window over two neighbours of different users would
    /// make of it is not asked. Intervals are those of the drawing: how far another pool would differ, they do not know.
    ///
    /// # Errors
    /// When there is nothing to draw from, too much to hold, or too much to draw.
    pub fn lives(&self, policy: &Policy, settings: LifeSettings) -> Result<Lives, String> {
        self.check(settings)?;
        let mut random = SplitMix64::new(settings.seed);
        let (mut levels, mut user_messages) = (BTreeMap::<Level, u64>::new(), 0);
        for _ in 0..settings.lives {
            let (level, read) = self.life(policy, settings, &mut random);
            *levels.entry(level).or_default() += 1;
            user_messages += read;
        }
        let lives = settings.lives as u64;
        Ok(Lives {
            settings,
            pool_users: self.users,
            pool_sessions: self.sessions.len(),
            pool_user_messages: self.user_messages,
            user_messages_mean: user_messages as f64 / settings.lives.max(1) as f64,
            ever: by_level(&levels, lives),
            ever_called: called(&levels, lives),
        })
    }

    /// Whether there is something to draw from, and not too much to hold or to draw.
    fn check(&self, settings: LifeSettings) -> Result<(), String> {
        self.check_held()?;
        let drawn = settings.lives.saturating_mul(settings.sessions);
        if drawn > LIFE_SESSIONS_MAX {
            return Err(format!(
                "{drawn} sessions in all lives, the limit is {LIFE_SESSIONS_MAX}; hint: fewer --lives or --life-sessions"
            ));
        }
        Ok(())
    }

    /// Whether there is something to draw from, and not too much to hold.
    fn check_held(&self) -> Result<(), String> {
        if self.messages > POOL_MESSAGES_MAX {
            let found = self.messages;
            return Err(format!(
                "{found} messages to put lives together from, the limit is {POOL_MESSAGES_MAX}; hint: score a sample of the users"
            ));
        }
        if self.user_messages == 0 {
            return Err("no message of any user to put lives together from; hint: score some innocent users".into());
        }
        Ok(())
    }

    /// For each arc the least thresholds that no more than `ever` / 2 of the lives ever reach in that arc: no more than `ever` of
    /// them in either.
    ///
    /// # Errors
    /// Those of [`Pool::lives`].
    pub fn thresholds(&self, settings: LifeSettings, ever: f64) -> Result<[KeptThresholds; 2], String> {
        self.check(settings)?;
        let mut random = SplitMix64::new(settings.seed);
        let mut heights: [[Vec<f64>; WATCHED]; 2] = Default::default();
        for _ in 0..settings.lives {
            let mut watches = ArcKind::ALL.map(Watch::new);
            self.draw(settings, &mut random, &mut |_, scored, time| {
                watches.iter_mut().for_each(|watch| watch.hear(scored, time));
            });
            for (heights, watch) in heights.iter_mut().zip(&watches) {
                heights.iter_mut().zip(watch.heights()).for_each(|(all, height)| all.push(height));
            }
        }
        let kept = (ever / 2.0 * settings.lives as f64) as usize;
        let learned = failures_allowed(settings.lives, ever / 2.0, LEARNED_CONFIDENCE);
        Ok(heights.map(|mut detectors| {
            detectors.iter_mut().for_each(|heights| heights.sort_by(|a, b| b.total_cmp(a)));
            // So many lives stand above it at most.
            let above = |heights: &[f64], lives: usize| heights.get(lives).map(|height| height.next_up());
            KeptThresholds {
                watched: detectors.each_ref().map(|heights| above(heights, kept).unwrap_or(f64::NEG_INFINITY)),
                learned: learned.and_then(|lives| above(&detectors[WATCHED_MAX], lives)),
            }
        }))
    }

    /// The highest level of one life, and its user messages.
    fn life(&self, policy: &Policy, settings: LifeSettings, random: &mut SplitMix64) -> (Level, usize) {
        let (mut life, mut user_messages) = (Life::new(), 0);
        self.draw(settings, random, &mut |message, scored, time| {
            user_messages += usize::from(scored.role == Role::User);
            life.hear(policy, scored, time, &message.categories);
        });
        (life.level_max, user_messages)
    }

    /// One life, message by message: what was written down, its scores at its place in the life, and when.
    fn draw(
        &self,
        settings: LifeSettings,
        random: &mut SplitMix64,
        each: &mut dyn FnMut(&UserMessage, ScoredMessage, Option<Timestamp>),
    ) {
        for session in 0..settings.sessions {
            let seconds = (session as f64 * settings.gap_days * 86_400.0) as i64;
            let time = Timestamp::from_second(seconds).ok();
            for message in &self.sessions[random.below(self.sessions.len())] {
                let at = MessageAt { session, message: message.scored.at.message };
                each(message, ScoredMessage { at, ..message.scored }, time);
            }
        }
    }
}
