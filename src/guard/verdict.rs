//! Reading a verdict without generating: the probabilities of whole verdict strings.
//!
//! A guard answers `safe`, or `unsafe`, a line end and the codes of categories. Some write white
//! space first (Llama Guard 3: two line ends), and some tokenizers split `unsafe`, so that the
//! first token alone says too little. With `w` over the ways to begin, the leads:
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
//!
//! A pass of one row costs a model about what one of a dozen rows costs: its weights are read once. So tokens are not read one
//! by one. What all codes of one lead begin with (`\n\nunsafe\nS`) is appended to the prompt, and one pass reads prompt and
//! chain: attention is causal, so a row does not see the chain behind it. A second pass reads, side by side, what that left
//! open: other leads, a split `safe`, codes that go on. A third is needed only where another lead than the expected one says `unsafe`.
//!
//! A lead whose first tokens have less than [`LEAD_UNREAD_MAX`] of probability is not read and counts as nothing; which leads
//! are read hangs on the prompt alone, never on which was expected. Its mass is at most the probability of its first tokens, and
//! [`Verdict::mass_unread_max`] is the sum of these, below 3 · [`LEAD_UNREAD_MAX`]. With U unread, of which `a ≤ U` would have been
//! unsafe, P(unsafe) is `(m(unsafe) + a) / (m(safe) + m(unsafe) + U)`: it differs by `U / mass` at most.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::{GuardError, Tokenize};

/// White space a guard may write before its verdict.
const LEADS: [&str; 4] = ["", " ", "\n", "\n\n"];
/// The least probability of the two verdicts together that is believed, unless settings differ.
pub const MASS_MIN_DEFAULT: f32 = 0.5;
/// A lead is left out where its verdicts' first tokens have less probability than this together, unless none has more.
pub const LEAD_UNREAD_MAX: f64 = 1e-6;

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

    /// Does so for each, in their order; side by side in one pass where the model can.
    ///
    /// # Errors
    /// As [`NextToken::extend`].
    fn extend_each(&self, asked: &[Asked<Self::Prefix>]) -> Result<Vec<Extended<Self::Prefix>>, Self::Error> {
        asked.iter().map(|one| self.extend(one.from, one.tokens, one.rows)).collect()
    }

    /// A prefix without its last `tokens`, as if they had not been read. Cheap.
    ///
    /// # Errors
    /// When the model cannot go back that far.
    fn back(&self, prefix: &Self::Prefix, tokens: usize) -> Result<Self::Prefix, Self::Error>;
}

/// One of several readings: [`NextToken::extend`]'s arguments.
pub struct Asked<'a, P> {
    pub from: &'a P,
    pub tokens: &'a [u32],
    pub rows: usize,
}

/// A prefix that went on, and the logits asked for.
pub struct Extended<P> {
    pub prefix: P,
    pub rows: Vec<Vec<f32>>,
}

/// What a verdict is read after.
pub struct Prompt<'a, P> {
    /// The part of it that was read before.
    pub from: &'a P,
    /// The rest, at least one token.
    pub tokens: &'a [u32],
    /// The lead that is expected: [`Answer::lead`] of a prompt before, or [`VerdictStrings::lead`]. Another than the guard's costs
    /// a pass and changes nothing.
    pub lead: usize,
}

/// What came after a prompt.
pub struct Answer<P> {
    /// The error is the guard's: it puts too little on either verdict.
    pub verdict: Result<Verdict, GuardError>,
    /// The whole prompt, to go on from.
    pub prefix: P,
    /// The lead that has most of the mass.
    pub lead: usize,
}

/// A guard's answer about one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub p_unsafe: f64,
    /// The probability of both verdicts together, as far as it was read.
    pub mass: f64,
    /// The greatest mass that leads too unlikely to be read could add. `p_unsafe` is right to `mass_unread_max / mass`.
    pub mass_unread_max: f64,
    /// P(code is named first | unsafe), in the order of the codes.
    pub categories: Vec<f64>,
}

/// The strings of a guard's verdicts as token ids.
#[derive(Debug, Clone)]
pub struct VerdictStrings {
    mass_min: f32,
    /// Distinct ways to write the verdict, at least one.
    leads: Vec<Lead>,
}

#[derive(Debug, Clone)]
struct Lead {
    text: &'static str,
    safe: Vec<u32>,
    unsafe_: Vec<u32>,
    codes: Vec<Code>,
}

/// `unsafe`, a line end and a code.
#[derive(Debug, Clone)]
struct Code {
    tokens: Vec<u32>,
    /// The tokens that would make it a longer code.
    goes_on: BTreeSet<u32>,
}

impl Code {
    /// After which tokens the next one must be known to tell how likely it is named.
    fn path(&self) -> &[u32] {
        if self.goes_on.is_empty() { parent(&self.tokens) } else { &self.tokens }
    }
}

impl Lead {
    fn new(text: &'static str, codes: &[String], tokenizer: &dyn Tokenize) -> Self {
        let encode = |verdict: &str| tokenizer.encode_text(&format!("{text}{verdict}"));
        let tokens: Vec<Vec<u32>> = codes.iter().map(|code| encode(&format!("unsafe\n{code}"))).collect();
        let code = |at: usize| {
            let longer = (0..codes.len()).filter(|&i| codes[i] != codes[at] && codes[i].starts_with(&codes[at]));
            // Only where the tokens go on too: `S10` may be the tokens `S`, `10`.
            let goes_on = longer.filter_map(|i| tokens[i].strip_prefix(tokens[at].as_slice())?.first().copied());
            Code { tokens: tokens[at].clone(), goes_on: goes_on.collect() }
        };
        let codes = (0..codes.len()).map(code).collect();
        Self { text, safe: encode("safe"), unsafe_: encode("unsafe"), codes }
    }

    /// The longest way from the prompt on which all of its codes lie.
    fn chain(&self) -> &[u32] {
        let mut parents = self.codes.iter().map(|code| parent(&code.tokens));
        let Some(first) = parents.next() else { return parent(&self.unsafe_) };
        &first[..parents.fold(first.len(), |common, other| common.min(common_tokens(first, other)))]
    }

    /// After which tokens the next one must be known to tell how likely the verdicts are.
    fn verdict_paths(&self) -> [&[u32]; 2] {
        [parent(&self.safe), parent(&self.unsafe_)]
    }

    /// The same for the codes.
    fn code_paths(&self) -> impl Iterator<Item = &[u32]> {
        self.codes.iter().map(Code::path)
    }
}

impl VerdictStrings {
    /// # Errors
    /// When the tokenizer has no tokens for a verdict or a code.
    pub fn new(codes: &[String], tokenizer: &dyn Tokenize, mass_min: f32) -> Result<Self, GuardError> {
        let mut leads: Vec<Lead> = Vec::new();
        for text in LEADS {
            let new = Lead::new(text, codes, tokenizer);
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
        Ok(Self { mass_min, leads })
    }

    /// The lead of this white space, for [`Prompt::lead`]; the first where the tokenizer writes it as another.
    pub fn lead(&self, text: &str) -> usize {
        self.leads.iter().position(|lead| lead.text == text).unwrap_or(0)
    }

    /// Reads a prompt, and the verdict after it.
    ///
    /// # Errors
    /// The model's.
    pub fn read<N: NextToken>(&self, model: &N, prompt: &Prompt<N::Prefix>) -> Result<Answer<N::Prefix>, N::Error> {
        let expected = prompt.lead.min(self.leads.len() - 1);
        let mut tree = Tree::new(model, prompt, self.leads[expected].chain())?;
        let bounds: Vec<f64> = self.leads.iter().map(|lead| tree.mass_max(lead)).collect();
        let likeliest = greatest(&bounds, expected);
        // A bound that is not a number is not below anything: what is broken is read, and refused.
        let left_out = |lead: &usize| bounds[*lead] < LEAD_UNREAD_MAX.min(bounds[likeliest]);
        let (unread, leads): (Vec<usize>, Vec<usize>) = (0..self.leads.len()).partition(left_out);
        let leads: Vec<&Lead> = leads.iter().map(|&lead| &self.leads[lead]).collect();
        let verdicts = leads.iter().flat_map(|lead| lead.verdict_paths());
        tree.read(verdicts.chain(self.leads[likeliest].code_paths()))?;
        let safe: Vec<f64> = leads.iter().map(|lead| tree.log_probability(&lead.safe)).collect();
        let unsafe_: Vec<f64> = leads.iter().map(|lead| tree.log_probability(&lead.unsafe_)).collect();
        let (log_safe, log_unsafe) = (log_sum_exp(safe.iter().copied()), log_sum_exp(unsafe_.iter().copied()));
        let mass = log_sum_exp([log_safe, log_unsafe].into_iter()).exp();
        let verdict = if mass.is_nan() || mass < f64::from(self.mass_min) {
            Err(GuardError::Unsure { mass: mass as f32, min: self.mass_min })
        } else {
            let best = leads[greatest(&unsafe_, 0)];
            tree.read(best.code_paths())?;
            Ok(Verdict {
                p_unsafe: 1.0 / (1.0 + (log_safe - log_unsafe).exp()),
                mass,
                mass_unread_max: unread.iter().fold(0.0, |sum, &lead| sum + bounds[lead]),
                categories: tree.categories(best),
            })
        };
        let masses = safe.iter().zip(&unsafe_).map(|(&safe, &unsafe_)| log_sum_exp([safe, unsafe_].into_iter()));
        let masses: Vec<f64> = masses.collect();
        let lead = self.lead(leads[greatest(&masses, 0)].text);
        Ok(Answer { verdict, prefix: tree.prompt, lead })
    }
}

/// Continuations of a prompt, each token sequence read once.
struct Tree<'a, N: NextToken> {
    model: &'a N,
    prompt: N::Prefix,
    /// By the tokens after the prompt; with a node, all on the way to it are there.
    nodes: BTreeMap<Vec<u32>, Node<N::Prefix>>,
}

struct Node<P> {
    prefix: P,
    logits: Vec<f32>,
    /// The logarithm of the softmax's denominator.
    log_total: f64,
}

impl<P> Node<P> {
    fn new(prefix: P, logits: Vec<f32>) -> Self {
        Self { prefix, log_total: log_sum_exp(logits.iter().map(|&x| f64::from(x))), logits }
    }

    fn log_probability(&self, token: u32) -> f64 {
        self.logits.get(token as usize).map_or(f64::NEG_INFINITY, |&logit| f64::from(logit) - self.log_total)
    }
}

impl<'a, N: NextToken> Tree<'a, N> {
    /// Reads the rest of a prompt and a chain of tokens after it.
    fn new(model: &'a N, prompt: &Prompt<N::Prefix>, chain: &[u32]) -> Result<Self, N::Error> {
        let extended = model.extend(prompt.from, &[prompt.tokens, chain].concat(), chain.len() + 1)?;
        let prompt = model.back(&extended.prefix, chain.len())?;
        let mut tree = Self { model, prompt, nodes: BTreeMap::new() };
        tree.take(chain, 0, extended)?;
        Ok(tree)
    }

    /// Reads the nodes at these token sequences that are not known yet, in one pass.
    fn read<'p>(&mut self, paths: impl Iterator<Item = &'p [u32]>) -> Result<(), N::Error> {
        let mut unknown: Vec<&[u32]> = paths.filter(|path| !self.nodes.contains_key(*path)).collect();
        unknown.sort_unstable();
        let mut ends: Vec<&[u32]> = Vec::new();
        for path in unknown {
            // In this order a path stands right before those that go on from it, and is read with the first of them.
            if ends.last().is_some_and(|before| path.starts_with(before)) {
                ends.pop();
            }
            ends.push(path);
        }
        if ends.is_empty() {
            return Ok(());
        }
        let known: Vec<usize> = ends.iter().map(|path| self.known(path)).collect();
        let asked = ends.iter().zip(&known).map(|(path, &known)| Asked {
            from: self.nodes.get(&path[..known]).map_or(&self.prompt, |node| &node.prefix),
            tokens: &path[known..],
            rows: path.len() - known,
        });
        let extended = self.model.extend_each(&asked.collect::<Vec<_>>())?;
        for ((path, known), extended) in ends.into_iter().zip(known).zip(extended) {
            self.take(path, known + 1, extended)?;
        }
        Ok(())
    }

    /// How many of the first tokens of a path, but not all, have a node.
    fn known(&self, path: &[u32]) -> usize {
        (0..path.len()).rev().find(|&length| self.nodes.contains_key(&path[..length])).unwrap_or(0)
    }

    /// Makes nodes of what was read on the way to `path`: at its first `from` tokens, at one more, and so on to all.
    fn take(&mut self, path: &[u32], from: usize, extended: Extended<N::Prefix>) -> Result<(), N::Error> {
        for (back, logits) in extended.rows.into_iter().rev().enumerate().take(path.len() + 1 - from) {
            if let Entry::Vacant(free) = self.nodes.entry(path[..path.len() - back].to_vec()) {
                free.insert(Node::new(self.model.back(&extended.prefix, back)?, logits));
            }
        }
        Ok(())
    }

    /// ln P(tokens | prompt), of nodes that were read.
    fn log_probability(&self, tokens: &[u32]) -> f64 {
        let next = |(at, &token): (usize, &u32)| self.next_log_probability(&tokens[..at], token);
        tokens.iter().enumerate().map(next).sum()
    }

    /// ln P(token | prompt, tokens before).
    fn next_log_probability(&self, before: &[u32], token: u32) -> f64 {
        self.nodes.get(before).map_or(f64::NEG_INFINITY, |node| node.log_probability(token))
    }

    /// The mass of a lead is at most this: the probability of its verdicts' first tokens.
    fn mass_max(&self, lead: &Lead) -> f64 {
        [&lead.safe, &lead.unsafe_].iter().map(|verdict| self.log_probability(&verdict[..1]).exp()).sum()
    }

    fn categories(&self, lead: &Lead) -> Vec<f64> {
        let log = |code: &Code| {
            let more = code.goes_on.iter().map(|&token| self.next_log_probability(&code.tokens, token).exp());
            let ends = more.fold(1.0, |left, p| left - p);
            self.log_probability(&code.tokens) + ends.max(0.0).ln()
        };
        let logs: Vec<f64> = lead.codes.iter().map(log).collect();
        let total = log_sum_exp(logs.iter().copied());
        logs.iter().map(|log| if total.is_finite() { (log - total).exp() } else { 0.0 }).collect()
    }
}

/// How many tokens two sequences begin with alike.
pub fn common_tokens(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The tokens before the last.
fn parent(tokens: &[u32]) -> &[u32] {
    tokens.split_last().map_or(&[], |(_, before)| before)
}

/// The place of the greatest value: `expected` unless another is greater.
fn greatest(values: &[f64], expected: usize) -> usize {
    (0..values.len()).fold(expected, |best, at| if values[at] > values[best] { at } else { best })
}

/// ln Σ exp(x), without overflow; −∞ of nothing.
fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if !max.is_finite() {
        return max;
    }
    max + values.map(|x| (x - max).exp()).sum::<f64>().ln()
}
