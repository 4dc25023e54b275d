//! What several models make of one history, each by itself.
//!
//! They are never averaged: the history stands at the highest level that any of them gives it, as if each had been asked alone, and what
//! each says stays beside it. For the same words read twice are not two pieces of evidence. Under the weakest assumption, that either
//! model is calibrated and nothing is known of how they depend on each other, the only ways to put e-values together that are again
//! e-values are weighted means (Vovk & Wang 2021, *E-values: Calibration, combination and applications*, Proposition 3.1), and no mean
//! stands above the greatest. So agreement makes no alarm surer than the surer of them is; disagreement is told, and a person decides.
//! The highest of them is no e-value either: of K models an innocent history is called by some with a probability of up to K times that
//! of one. That is the price of letting none be outvoted.

use std::collections::BTreeSet;

use super::HistoryScore;
use crate::verdict::{Level, Mitigation, OnFailure};

/// The scores of one history by several models, in the order in which they were named; by one at least.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    first: &'a HistoryScore,
    others: &'a [HistoryScore],
}

impl<'a> Panel<'a> {
    /// `None` where there is no score.
    pub fn new(scores: &'a [HistoryScore]) -> Option<Self> {
        let (first, others) = scores.split_first()?;
        Some(Self { first, others })
    }

    pub fn first(self) -> &'a HistoryScore {
        self.first
    }

    pub fn others(self) -> &'a [HistoryScore] {
        self.others
    }

    /// All of them, in order.
    pub fn all(self) -> impl Iterator<Item = &'a HistoryScore> {
        std::iter::once(self.first).chain(self.others)
    }

    /// The one that gives the highest level; of several that do, the first named.
    pub fn leading(self) -> &'a HistoryScore {
        self.all().reduce(|best, one| if one.level() > best.level() { one } else { best }).unwrap_or(self.first)
    }

    /// The highest level that any gives.
    pub fn level(self) -> Level {
        self.leading().level()
    }

    /// The level that all of them give, or more; but for those that judged no message, whose level says nothing.
    pub fn agreed_level(self) -> Level {
        self.all().filter(|score| !score.is_unjudged()).map(HistoryScore::level).min().unwrap_or(Level::None)
    }

    /// Whether one would have a person read what another sees nothing in.
    pub fn disagrees(self) -> bool {
        self.level() >= Level::Review && self.agreed_level() == Level::None
    }

    /// What is recommended by the findings of any.
    pub fn mitigations(self) -> BTreeSet<Mitigation> {
        self.all().flat_map(|score| score.verdict.mitigations.iter().copied()).collect()
    }

    /// Closed where the verdict of any is.
    pub fn on_failure(self) -> OnFailure {
        let closed = self.all().any(|score| score.verdict.on_failure == OnFailure::Closed);
        if closed { OnFailure::Closed } else { OnFailure::Open }
    }
}
