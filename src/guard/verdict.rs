//! Reading a verdict without generating: the probabilities of whole verdict strings.
//!
//! A guard answers `safe`, or `unsafe`, a line end and the codes of categories. Some write white
//! space first (Llama Guard 3: two line ends), and some tokenizers split `unsafe`, so that the
//! first token alone says too little. With `w` over the ways to begin:
//!
//! ```text
//! m(v) = Σ_w Π_i P(token_i of w·v | prompt, tokens before)          mass of a verdict string
//! P(unsafe) = m(unsafe) / (m(safe) + m(unsafe))                     refused when the sum is small
//! P(c) ∝ Π_i P(token_i of code c | prompt, w·"unsafe\n") · (1 − P(a token that makes c a longer code))
//! ```
//!
//! where `w` in the last line is the one with the greatest m(unsafe), and `P(c)` is of the code
//! named first. The last factor tells `S1` from `S10` where digits are tokens of their own. A code
//! that is not in the list counts for the listed one it begins with.

use std::collections::{BTreeMap, BTreeSet};

use super::{GuardError, Tokenize};

/// White space a guard may write before its verdict.
const LEADS: [&str; 4] = ["", " ", "\n", "\n\n"];
/// The least probability of the two verdicts together that is believed, unless settings differ.
pub const MASS_MIN_DEFAULT: f32 = 0.5;

/// A model that tells the logits of the next token; the engine, or a test's plan.
pub trait NextToken {
    /// Tokens already read, to go on from. Cheap to clone.
    type Prefix: Clone;
    type Error;

    /// Nothing read.
    fn empty(&self) -> Self::Prefix;

    /// Reads tokens after a prefix; the logits `(V)` after each of the last `rows` of them.
    ///
    /// # Errors
    /// Whatever keeps the model from it.
    fn extend(&self, from: &Self::Prefix, tokens: &[u32], rows: usize) -> Result<Extended<Self::Prefix>, Self::Error>;
}

/// A prefix that went on, and the logits asked for.
pub struct Extended<P> {
    pub prefix: P,
    pub rows: Vec<Vec<f32>>,
}

/// A guard's answer about one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub p_unsafe: f64,
    /// The probability of both verdicts together.
    pub mass: f64,
    /// P(code is named first | unsafe), in the order of the codes.
    pub categories: Vec<f64>,
}

/// The strings of a guard's verdicts as token ids.
#[derive(Debug, Clone)]
pub struct VerdictStrings {
    mass_min: f32,
    /// Distinct ways to write the verdict.
    leads: Vec<Lead>,
    /// For every code and every other code: whether it begins with it.
    extends: Vec<Vec<usize>>,
}

#[derive(Debug, Clone)]
struct Lead {
    safe: Vec<u32>,
    unsafe_: Vec<u32>,
    codes: Vec<Vec<u32>>,
}

impl VerdictStrings {
    /// # Errors
    /// When the tokenizer has no tokens for a verdict or a code.
    pub fn new(codes: &[String], tokenizer: &dyn Tokenize, mass_min: f32) -> Result<Self, GuardError> {
        let mut leads: Vec<Lead> = Vec::new();
        for lead in LEADS {
            let encode = |text: &str| tokenizer.encode_text(&format!("{lead}{text}"));
            let new = Lead {
                safe: encode("safe"),
                unsafe_: encode("unsafe"),
                codes: codes.iter().map(|code| encode(&format!("unsafe\n{code}"))).collect(),
            };
            if new.safe.is_empty() || new.unsafe_.is_empty() || new.safe == new.unsafe_ {
                return Err(GuardError::Template(
                    "the tokenizer does not tell `safe` from `unsafe`; hint: it does not belong to this model".into(),
                ));
            }
            // A tokenizer that drops or normalises white space writes several leads alike.
            if !leads.iter().any(|known| known.safe == new.safe || known.unsafe_ == new.unsafe_) {
                leads.push(new);
            }
        }
        let extends = codes
            .iter()
            .map(|code| (0..codes.len()).filter(|&i| codes[i] != *code && codes[i].starts_with(code)).collect())
            .collect();
        Ok(Self { mass_min, leads, extends })
    }

    /// Reads the verdict after a prompt: its prefix, and the logits after its last token.
    ///
    /// The inner error is the guard's: it puts too little on either verdict.
    ///
    /// # Errors
    /// The model's.
    pub fn read<N: NextToken>(
        &self,
        model: &N,
        prompt: Extended<N::Prefix>,
    ) -> Result<Result<Verdict, GuardError>, N::Error> {
        let mut tree = Tree::new(model, prompt);
        let mut safe = Vec::with_capacity(self.leads.len());
        let mut unsafe_ = Vec::with_capacity(self.leads.len());
        for lead in &self.leads {
            safe.push(tree.log_probability(&lead.safe)?);
            unsafe_.push(tree.log_probability(&lead.unsafe_)?);
        }
        let (log_safe, log_unsafe) = (log_sum_exp(&safe), log_sum_exp(&unsafe_));
        let mass = log_sum_exp(&[log_safe, log_unsafe]).exp();
        if mass.is_nan() || mass < f64::from(self.mass_min) {
            return Ok(Err(GuardError::Unsure { mass: mass as f32, min: self.mass_min }));
        }
        let best = (0..unsafe_.len()).fold(0, |best, i| if unsafe_[i] > unsafe_[best] { i } else { best });
        let categories = self.categories(&mut tree, &self.leads[best])?;
        Ok(Ok(Verdict { p_unsafe: 1.0 / (1.0 + (log_safe - log_unsafe).exp()), mass, categories }))
    }

    fn categories<N: NextToken>(&self, tree: &mut Tree<N>, lead: &Lead) -> Result<Vec<f64>, N::Error> {
        let mut logs = Vec::with_capacity(lead.codes.len());
        for (code, longer) in lead.codes.iter().zip(&self.extends) {
            // Only where the tokens go on too: `S10` may be the tokens `S`, `10`.
            let goes_on: BTreeSet<u32> = longer
                .iter()
                .filter_map(|&other| lead.codes[other].strip_prefix(code.as_slice())?.first().copied())
                .collect();
            let mut ends = 1.0;
            for token in goes_on {
                ends -= tree.next_log_probability(code, token)?.exp();
            }
            logs.push(tree.log_probability(code)? + ends.max(0.0).ln());
        }
        let total = log_sum_exp(&logs);
        Ok(logs.iter().map(|log| if total.is_finite() { (log - total).exp() } else { 0.0 }).collect())
    }
}

/// Continuations of a prompt, each token sequence read once.
struct Tree<'a, N: NextToken> {
    model: &'a N,
    /// By the tokens after the prompt.
    nodes: BTreeMap<Vec<u32>, Node<N::Prefix>>,
}

struct Node<P> {
    prefix: P,
    logits: Vec<f32>,
    /// The logarithm of the softmax's denominator.
    log_total: f64,
}

impl<P> Node<P> {
    fn new(mut extended: Extended<P>) -> Self {
        let logits = extended.rows.pop().unwrap_or_default();
        let wide: Vec<f64> = logits.iter().map(|&x| f64::from(x)).collect();
        Self { prefix: extended.prefix, log_total: log_sum_exp(&wide), logits }
    }

    fn log_probability(&self, token: u32) -> f64 {
        self.logits.get(token as usize).map_or(f64::NEG_INFINITY, |&logit| f64::from(logit) - self.log_total)
    }
}

impl<'a, N: NextToken> Tree<'a, N> {
    fn new(model: &'a N, prompt: Extended<N::Prefix>) -> Self {
        Self { model, nodes: BTreeMap::from([(Vec::new(), Node::new(prompt))]) }
    }

    /// ln P(tokens | prompt).
    fn log_probability(&mut self, tokens: &[u32]) -> Result<f64, N::Error> {
        let mut sum = 0.0;
        for (at, &token) in tokens.iter().enumerate() {
            sum += self.next_log_probability(&tokens[..at], token)?;
        }
        Ok(sum)
    }

    /// ln P(token | prompt, tokens before).
    fn next_log_probability(&mut self, before: &[u32], token: u32) -> Result<f64, N::Error> {
        // From the longest continuation that is known, one token at a time.
        let known = (0..=before.len()).rev().find(|&length| self.nodes.contains_key(&before[..length])).unwrap_or(0);
        for length in known + 1..=before.len() {
            let Some(parent) = self.nodes.get(&before[..length - 1]) else { continue };
            let extended = self.model.extend(&parent.prefix, &before[length - 1..length], 1)?;
            self.nodes.insert(before[..length].to_vec(), Node::new(extended));
        }
        Ok(self.nodes.get(before).map_or(f64::NEG_INFINITY, |node| node.log_probability(token)))
    }
}

/// ln Σ exp(x), without overflow; −∞ of nothing.
fn log_sum_exp(values: &[f64]) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !max.is_finite() {
        return max;
    }
    max + values.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}
