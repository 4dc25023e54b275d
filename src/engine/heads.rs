//! The small heads of a `MessageHeads` model: ordinal, cumulative-link, on one hidden state.
//!
//! CORAL (Cao, Mirjalili & Raschka 2020, arXiv:1901.07884): one weight vector a head and `K − 1`
//! ordered biases, `P(y > k) = σ((w·x + b_k) / temperature)`. The head returns the logits before
//! the σ, already divided by the temperature; what they mean is the scoring room's.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::EngineError;
use super::weights::Gguf;

/// The heads of the format's version 1, in the order of the logits' fields.
const NAMES: [&str; 4] = ["harassment", "delusion", "stance", "imminent"];

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
}

struct Head {
    weight: Vec<f32>, // (C)
    bias: Vec<f32>,   // (K − 1)
    temperature: f32,
}

impl Head {
    /// `(C)` → `K − 1` logits.
    fn logits(&self, hidden: &[f32]) -> impl Iterator<Item = f32> + '_ {
        let dot: f32 = self.weight.iter().zip(hidden).map(|(w, x)| w * x).sum();
        self.bias.iter().map(move |b| (dot + b) / self.temperature)
    }
}

/// All heads of a model file.
pub(super) struct Heads {
    heads: [Head; 4],
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
    /// When a head is missing, or its tensors do not have the shape of the format's version 1.
    pub fn read(gguf: &Gguf, hidden_size: usize) -> Result<Option<Self>, EngineError> {
        let Some(json) = gguf.string("throughline.heads") else { return Ok(None) };
        let metadata: BTreeMap<String, HeadMetadata> = serde_json::from_str(json)
            .map_err(|error| EngineError::Config(format!("metadata throughline.heads: {error}")))?;
        let read = |name: &str| -> Result<Head, EngineError> {
            let about = metadata.get(name).ok_or_else(|| EngineError::Missing(format!("throughline.heads.{name}")))?;
            let tensor = |part: &str| {
                let key = format!("head.{name}.{part}");
                gguf.numbers(&key)?.ok_or(EngineError::Missing(key))
            };
            let head = Head { weight: tensor("weight")?, bias: tensor("bias")?, temperature: about.temperature };
            let thresholds = if name == "imminent" { 1 } else { 3 };
            let fits = head.weight.len() == hidden_size
                && head.bias.len() == thresholds
                && about.labels.len() == thresholds + 1
                && about.temperature > 0.0;
            if fits {
                Ok(head)
            } else {
                Err(EngineError::Config(format!(
                    "head {name}: {} weights, {} thresholds, {} labels, temperature {}; expected {hidden_size}, {thresholds}, {}, above 0",
                    head.weight.len(),
                    head.bias.len(),
                    about.labels.len(),
                    about.temperature,
                    thresholds + 1
                )))
            }
        };
        let [harassment, delusion, stance, imminent] = NAMES.map(read);
        Ok(Some(Self { heads: [harassment?, delusion?, stance?, imminent?] }))
    }

    /// The calibration temperature of each head, by name.
    pub fn temperatures(&self) -> BTreeMap<String, f32> {
        NAMES.iter().zip(&self.heads).map(|(name, head)| ((*name).to_owned(), head.temperature)).collect()
    }

    /// Every head's logits at one hidden state `(C)`.
    ///
    /// # Errors
    /// When one of them is not finite.
    pub fn logits(&self, hidden: &[f32]) -> Result<HeadLogits, EngineError> {
        let three = |head: &Head| {
            let mut out = [0.0; 3];
            out.iter_mut().zip(head.logits(hidden)).for_each(|(slot, logit)| *slot = logit);
            out
        };
        let logits = HeadLogits {
            harassment: three(&self.heads[0]),
            delusion: three(&self.heads[1]),
            stance: three(&self.heads[2]),
            imminent: self.heads[3].logits(hidden).next().unwrap_or(0.0),
        };
        let mut all = [logits.harassment, logits.delusion, logits.stance].into_iter().flatten();
        let finite = all.all(f32::is_finite) && logits.imminent.is_finite();
        if finite { Ok(logits) } else { Err(EngineError::NotFinite) }
    }
}
