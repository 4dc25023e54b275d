//! The small heads of a `MessageHeads` model: ordinal, cumulative-link, on one hidden state.
//!
//! `P(y > k) = σ((w_k·x + b_k) / temperature)` for the `K − 1` thresholds between `K` levels: one linear
//! classifier a threshold (Frank & Hall 2001, *A simple approach to ordinal classification*), or, where the
//! file has one weight vector a head, the same `w` for all of them (CORAL; Cao, Mirjalili & Raschka 2020,
//! arXiv:1901.07884). The heads return the logits before the σ, already divided by the temperature; what
//! they mean is the scoring room's.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::EngineError;
use super::weights::Gguf;

/// What every file of heads has: name and number of thresholds.
const REQUIRED: [(&str, usize); 4] = [("harassment", 3), ("delusion", 3), ("stance", 3), ("imminent", 1)];
/// What a file may have as well, since version 2 of the format.
const OPTIONAL: [(&str, usize); 3] = [("harassment_case", 1), ("delusion_case", 1), ("framed", 1)];

/// Cumulative logits of every head at one position: entry `k` is `logit P(y > k)`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadLogits {
    /// Harassment level 0–3: three thresholds.
    pub harassment: [f32; 3],
    /// Delusion level 0–3: three thresholds.
    pub delusion: [f32; 3],
    /// Stance −1–2: three thresholds.
    pub stance: [f32; 3],
    /// Imminent, yes or no: one threshold.
    pub imminent: f32,
    /// Whether a case of harassment is open by this message; `None` where the model has no such head.
    pub harassment_case: Option<f32>,
    /// The same of delusion.
    pub delusion_case: Option<f32>,
    /// Whether the message speaks under a frame, a story or a game; `None` where the model has no such head.
    pub framed: Option<f32>,
}

struct Head {
    weights: Vec<f32>, // (K − 1, C), or (1, C) for all thresholds
    bias: Vec<f32>,    // (K − 1)
    temperature: f32,
}

impl Head {
    /// `(C)` → `K − 1` logits.
    fn logits<const THRESHOLDS: usize>(&self, hidden: &[f32]) -> [f32; THRESHOLDS] {
        let rows: Vec<f32> = self
            .weights
            .chunks_exact(hidden.len())
            .map(|row| row.iter().zip(hidden).map(|(w, x)| w * x).sum())
            .collect();
        let mut out = [0.0; THRESHOLDS];
        for ((slot, bias), dot) in out.iter_mut().zip(&self.bias).zip(rows.iter().cycle()) {
            *slot = (dot + bias) / self.temperature;
        }
        out
    }

    /// The head `name` of a file.
    fn read(gguf: &Gguf, name: &str, about: &HeadMetadata, shape: (usize, usize)) -> Result<Self, EngineError> {
        let (thresholds, hidden_size) = shape;
        let tensor = |part: &str| {
            let key = format!("head.{name}.{part}");
            gguf.numbers(&key)?.ok_or(EngineError::Missing(key))
        };
        let head = Self { weights: tensor("weight")?, bias: tensor("bias")?, temperature: about.temperature };
        let fits = [hidden_size, thresholds * hidden_size].contains(&head.weights.len())
            && head.bias.len() == thresholds
            && about.labels.len() == thresholds + 1
            && about.temperature > 0.0
            && about.temperature.is_finite();
        if fits {
            return Ok(head);
        }
        Err(EngineError::Config(format!(
            "head {name}: {} weights, {} thresholds, {} labels, temperature {}; expected {hidden_size} or {}, {thresholds}, {}, above 0 and finite",
            head.weights.len(),
            head.bias.len(),
            about.labels.len(),
            about.temperature,
            thresholds * hidden_size,
            thresholds + 1
        )))
    }
}

/// All heads of a model file, by name.
pub(super) struct Heads {
    heads: BTreeMap<String, Head>,
    hidden_size: usize,
}

#[derive(Deserialize)]
struct HeadMetadata {
    labels: Vec<i8>,
    temperature: f32,
}

impl Heads {
    /// Reads the heads of a GGUF file; `None` when it has none (metadata `throughline.heads`).
    ///
    /// # Errors
    /// When a head is missing, or its tensors do not have the shape of the format.
    pub fn read(gguf: &Gguf, hidden_size: usize) -> Result<Option<Self>, EngineError> {
        let Some(json) = gguf.string("throughline.heads") else { return Ok(None) };
        let metadata: BTreeMap<String, HeadMetadata> = serde_json::from_str(json)
            .map_err(|error| EngineError::Config(format!("metadata throughline.heads: {error}")))?;
        let mut heads = BTreeMap::new();
        for (name, thresholds) in REQUIRED.into_iter().chain(OPTIONAL) {
            match metadata.get(name) {
                Some(about) => {
                    heads.insert(name.to_owned(), Head::read(gguf, name, about, (thresholds, hidden_size))?);
                }
                None if OPTIONAL.iter().any(|(optional, _)| *optional == name) => {}
                None => return Err(EngineError::Missing(format!("throughline.heads.{name}"))),
            }
        }
        Ok(Some(Self { heads, hidden_size }))
    }

    /// The calibration temperature of each head, by name.
    pub fn temperatures(&self) -> BTreeMap<String, f32> {
        self.heads.iter().map(|(name, head)| (name.clone(), head.temperature)).collect()
    }

    /// Every head's logits at one hidden state `(C)`.
    ///
    /// # Errors
    /// When one of them is not finite, or the hidden state is not of the heads' size.
    pub fn logits(&self, hidden: &[f32]) -> Result<HeadLogits, EngineError> {
        if hidden.len() != self.hidden_size {
            return Err(EngineError::Config(format!(
                "a hidden state of {} numbers for heads of {}",
                hidden.len(),
                self.hidden_size
            )));
        }
        let one = |name: &str| self.heads.get(name).map(|head| head.logits::<1>(hidden)[0]);
        let three = |name: &str| self.heads.get(name).map(|head| head.logits::<3>(hidden)).unwrap_or_default();
        let logits = HeadLogits {
            harassment: three("harassment"),
            delusion: three("delusion"),
            stance: three("stance"),
            imminent: one("imminent").unwrap_or_default(),
            harassment_case: one("harassment_case"),
            delusion_case: one("delusion_case"),
            framed: one("framed"),
        };
        let levels = [logits.harassment, logits.delusion, logits.stance].into_iter().flatten();
        let single = [Some(logits.imminent), logits.harassment_case, logits.delusion_case, logits.framed];
        if levels.chain(single.into_iter().flatten()).all(f32::is_finite) {
            Ok(logits)
        } else {
            Err(EngineError::NotFinite)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(weights: &[f32]) -> Head {
        Head { weights: weights.to_vec(), bias: vec![1.0, 0.0, -1.0], temperature: 2.0 }
    }

    /// By hand: hidden (1, 2), so that rows (1, 0), (0, 1), (1, 1) give 1, 2, 3.
    #[test]
    fn a_threshold_has_its_own_weights_or_all_have_the_same() {
        assert_eq!(head(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).logits::<3>(&[1.0, 2.0]), [1.0, 1.0, 1.0]);
        assert_eq!(head(&[1.0, 1.0]).logits::<3>(&[1.0, 2.0]), [2.0, 1.5, 1.0]);
    }
}
