//! Is what the arcs' promise assumes true? The mean e-value of user messages.
//!
//! The α of a level holds as long as an innocent user's message has an e-value of mean 1 at most, given everything before
//! ([`ArcKind::e_value`] says why, and what becomes of α otherwise). Here the mean over all user messages is told:
//!
//! - an interval at or below 1: nothing here speaks against α, and the further below, the more room there is;
//! - an interval above 1: α does not hold as it is, and innocents may be called more often than it says;
//! - an interval around 1, or none: these users do not tell.
//!
//! Everyone is taken to be innocent. A case among them raises the mean; but whoever was called must not be left out, for an innocent who
//! was called is just what the mean is to show. What it does not show: a mean of 1 over all messages may hide one above 1 after certain
//! pasts (in one user's life, late in a session), and an interval is too narrow where slips are so rare that hardly a user has one.
//! It is about the levels of messages alone; what a guard's odds of an open case add to an arc has no part in it.

use crate::arc::ArcKind;
use crate::benchmark::detector::ScoredUser;
use crate::benchmark::metrics::Figures;
use crate::benchmark::metrics::bootstrap::{Draws, intervals};
use crate::transcript::Role;

/// What is drawn is a whole user, for the messages of one depend on each other; beyond so many of them a group of users, so that
/// neither memory nor time grows with their number.
const GROUPS_MAX: usize = 10_000;
const DRAWS: Draws = Draws { samples: 1_000, seed: 1 };

/// E-values of user messages, added up by groups of users.
#[derive(Debug, Default)]
pub struct EValues {
    groups: Vec<Group>,
    users: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Group {
    user_messages: u64,
    /// Sums, in the order of [`ArcKind::ALL`].
    e_values: [f64; 2],
}

impl EValues {
    /// Takes in one more user who wrote anything. A user of whom the guard refused to judge all is left out: nothing is known of the
    /// levels there.
    pub fn see(&mut self, user: &ScoredUser) {
        let mut own = Group::default();
        for message in user.messages.iter().filter(|message| message.scored.role == Role::User) {
            own.add(&Group {
                user_messages: 1,
                e_values: ArcKind::ALL.map(|kind| kind.e_value(&message.scored.score)),
            });
        }
        if user.unjudged || own.user_messages == 0 {
            return;
        }
        match self.groups.get_mut(self.users % GROUPS_MAX) {
            Some(group) => group.add(&own),
            None => self.groups.push(own),
        }
        self.users += 1;
    }

    /// The mean of a user message's e-value, by the arc's name, with a 95% interval over users (percentile bootstrap). Nothing without a
    /// message, and no interval of a single user.
    pub fn means(&self) -> Figures {
        let clusters: Vec<Vec<usize>> = (0..self.groups.len()).map(|group| vec![group]).collect();
        let samples = if clusters.len() > 1 { DRAWS.samples } else { 0 };
        intervals(&clusters, Draws { samples, ..DRAWS }, &|drawn| {
            let mut all = Group::default();
            drawn.iter().for_each(|&group| all.add(&self.groups[group]));
            let mean = |sum: f64| (all.user_messages > 0).then(|| sum / all.user_messages as f64);
            ArcKind::ALL.iter().zip(all.e_values).map(|(kind, sum)| (kind.as_str(), mean(sum))).collect()
        })
    }
}

impl Group {
    fn add(&mut self, other: &Self) {
        self.user_messages += other.user_messages;
        self.e_values.iter_mut().zip(other.e_values).for_each(|(sum, more)| *sum += more);
    }
}
