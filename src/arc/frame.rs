//! Messages told under a frame (a story, a game, something supposed), and what is said plainly soon after them. Moves no score.

use serde::{Deserialize, Serialize};

use super::{Evidence, MessageAt, Observation};

/// A message is told under a frame from this probability on. What is said plainly is a leak after so many of them, each at most so many
/// messages of the user before the next and the last before it.
const FRAMED_MIN: f32 = 0.5;
const FRAMED_BEFORE_LEAK: u32 = 2;
const FRAMED_WITHIN: u64 = 32;

/// Where, soon after messages under a frame, something is said plainly; whether it is the same matter, a person must read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leak {
    /// The first message of the user that is evidence by its own levels, and under no frame, within 32 of their messages after two or more
    /// that were under one.
    pub at: MessageAt,
    /// Messages told under a frame shortly before it.
    pub framed_before: u32,
}

/// What is kept of a user's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Frames {
    /// Messages told under one of late.
    pub lately: u32,
    /// Which message of the user was the last of them, counted from 1.
    pub last: u64,
    leak: Option<Leak>,
}

impl Frames {
    /// Takes in the user's `number`th message, counted from 1.
    pub fn step(&mut self, observation: &Observation, number: u64, is_evidence: bool) {
        let Some(probability) = observation.score.framed else { return };
        if number.saturating_sub(self.last) > FRAMED_WITHIN {
            self.lately = 0;
        }
        if probability >= FRAMED_MIN {
            self.lately = self.lately.saturating_add(1);
            self.last = number;
        } else if is_evidence && self.lately >= FRAMED_BEFORE_LEAK && self.leak.is_none() {
            self.leak = Some(Leak { at: observation.at, framed_before: self.lately });
        }
    }

    pub fn leak(&self) -> Option<Leak> {
        self.leak
    }
}

/// Which share of evidence, by its gain, stands in messages under a frame; `None` where the guard does not say of all of it.
pub(super) fn share(evidence: &[Evidence]) -> Option<f32> {
    let (mut all, mut framed) = (0.0, 0.0);
    for one in evidence {
        all += one.gain;
        framed += if one.framed? >= FRAMED_MIN { one.gain } else { 0.0 };
    }
    (all > 0.0).then(|| framed / all)
}
