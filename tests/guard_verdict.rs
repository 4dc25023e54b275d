//! Reading verdicts from a model whose answers are planned: every probability is known beforehand.

#![cfg(feature = "guard")]

use std::collections::BTreeMap;
use std::convert::Infallible;

use throughline::guard::verdict::{Extended, NextToken, Verdict, VerdictStrings};
use throughline::guard::{GuardError, Tokenize};

/// Greedy longest match over a few words; anything else is a token a byte.
struct Words {
    words: Vec<&'static str>,
    controls: BTreeMap<String, u32>,
}

impl Words {
    fn new(words: &[&'static str]) -> Self {
        Self { words: words.to_vec(), controls: BTreeMap::new() }
    }
}

impl Tokenize for Words {
    fn encode_text(&self, text: &str) -> Vec<u32> {
        let mut rest = text;
        let mut tokens = Vec::new();
        while let Some(&byte) = rest.as_bytes().first() {
            let longest = (0..self.words.len()).filter(|&i| rest.starts_with(self.words[i]));
            match longest.max_by_key(|&i| self.words[i].len()) {
                Some(i) => {
                    tokens.push(256 + i as u32);
                    rest = &rest[self.words[i].len()..];
                }
                None => {
                    tokens.push(u32::from(byte));
                    rest = &rest[1..];
                }
            }
        }
        tokens
    }

    fn control_tokens(&self) -> &BTreeMap<String, u32> {
        &self.controls
    }
}

const VOCABULARY: usize = 300;
/// Where the probability goes that no planned answer has.
const OTHER: usize = 299;

/// Answers with their probabilities; the next token's follow from them.
struct Planned {
    answers: Vec<(Vec<u32>, f64)>,
    /// Added to all logits: a softmax does not see it.
    shift: f32,
}

impl Planned {
    fn new(tokenizer: &Words, answers: &[(&str, f64)]) -> Self {
        let encode = |(text, p): &(&str, f64)| (tokenizer.encode_text(text), *p);
        Self { answers: answers.iter().map(encode).collect(), shift: 0.0 }
    }

    fn logits(&self, said: &[u32]) -> Vec<f32> {
        let begins = |answer: &Vec<u32>| answer.starts_with(said);
        // The whole of a prefix that no answer continues goes elsewhere.
        let whole: f64 = if said.is_empty() { 1.0 } else { self.sum(begins) };
        let mut next = vec![0.0; VOCABULARY];
        for (answer, p) in self.answers.iter().filter(|(answer, _)| begins(answer)) {
            match answer.get(said.len()) {
                Some(&token) => next[token as usize] += p,
                None => next[OTHER] += p,
            }
        }
        next[OTHER] += whole - next.iter().sum::<f64>();
        next.iter().map(|p| (p / whole.max(1e-300)).max(1e-30).ln() as f32 + self.shift).collect()
    }

    fn sum(&self, wanted: impl Fn(&Vec<u32>) -> bool) -> f64 {
        self.answers.iter().filter(|(answer, _)| wanted(answer)).map(|(_, p)| p).sum()
    }
}

impl NextToken for Planned {
    type Prefix = Vec<u32>;
    type Error = Infallible;

    fn empty(&self) -> Vec<u32> {
        Vec::new()
    }

    fn extend(&self, from: &Vec<u32>, tokens: &[u32], _rows: usize) -> Result<Extended<Vec<u32>>, Infallible> {
        let prefix = [from, tokens].concat();
        Ok(Extended { rows: vec![self.logits(&prefix)], prefix })
    }
}

const CODES: [&str; 4] = ["S1", "S2", "S10", "S12"];

fn strings(tokenizer: &Words, mass_min: f32) -> VerdictStrings {
    VerdictStrings::new(&CODES.map(str::to_owned), tokenizer, mass_min).unwrap()
}

fn read(tokenizer: &Words, model: &Planned) -> Result<Verdict, GuardError> {
    let prompt = Extended { prefix: Vec::new(), rows: vec![model.logits(&[])] };
    let Ok(answer) = strings(tokenizer, 0.5).read(model, prompt);
    answer
}

fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
}

/// Three tokenizers: words whole, `unsafe` split and numbers whole, everything split.
fn tokenizers() -> [Words; 3] {
    [
        Words::new(&["safe", "unsafe", "\n\n", "\n", "S", "1", "2", "10", "12", "19"]),
        Words::new(&["safe", "un", "\n\n", "S", "10", "12", "19"]),
        Words::new(&[]),
    ]
}

#[test]
fn probabilities_are_those_of_the_whole_strings() {
    for tokenizer in tokenizers() {
        let answers = [
            ("\n\nsafe", 0.40),
            ("safe", 0.10),
            ("\n\nunsafe\nS1\n", 0.05),
            ("\n\nunsafe\nS10\n", 0.15),
            ("\n\nunsafe\nS12,S1\n", 0.10),
            ("unsafe\nS2\n", 0.02),
            ("\n\nhello", 0.10),
        ];
        let verdict = read(&tokenizer, &Planned::new(&tokenizer, &answers)).unwrap();
        // unsafe .05 + .15 + .10 + .02, safe .40 + .10.
        assert_near(verdict.p_unsafe, 0.32 / 0.82);
        assert_near(verdict.mass, 0.82);
        // After the likelier lead: .05, 0, .15, .10 of .30.
        for (found, expected) in verdict.categories.iter().zip([1.0 / 6.0, 0.0, 0.5, 1.0 / 3.0]) {
            assert_near(*found, expected);
        }
    }
}

#[test]
fn every_lead_counts() {
    for lead in ["", " ", "\n", "\n\n"] {
        for tokenizer in tokenizers() {
            let (safe, unsafe_) = (format!("{lead}safe"), format!("{lead}unsafe\nS2\n"));
            let verdict = read(&tokenizer, &Planned::new(&tokenizer, &[(&safe, 0.3), (&unsafe_, 0.6)])).unwrap();
            assert_near(verdict.p_unsafe, 2.0 / 3.0);
            assert_near(verdict.categories[1], 1.0);
        }
    }
}

#[test]
fn a_guard_that_says_neither_is_not_believed() {
    let [words, ..] = tokenizers();
    let error = read(&words, &Planned::new(&words, &[("safe", 0.29), ("unsafe", 0.2), ("I am", 0.5)])).unwrap_err();
    let GuardError::Unsure { mass, min } = &error else { panic!("{error}") };
    assert!((mass - 0.49).abs() < 1e-5 && *min == 0.5);
    assert!(error.to_string().contains("hint"));
    assert!(read(&words, &Planned::new(&words, &[("safe", 0.31), ("unsafe", 0.2)])).is_ok());
}

#[test]
fn a_uniform_model_is_refused_and_a_broken_one_too() {
    struct Constant(f32);
    impl NextToken for Constant {
        type Prefix = ();
        type Error = Infallible;

        fn empty(&self) {}

        fn extend(&self, (): &(), _: &[u32], _: usize) -> Result<Extended<()>, Infallible> {
            Ok(Extended { prefix: (), rows: vec![vec![self.0; VOCABULARY]] })
        }
    }
    let [words, split, _] = tokenizers();
    for value in [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let prompt = Extended { prefix: (), rows: vec![vec![value; VOCABULARY]] };
        let Ok(answer) = strings(&words, 0.5).read(&Constant(value), prompt);
        assert!(matches!(answer, Err(GuardError::Unsure { .. })), "{value}: {answer:?}");
    }
    // Of 300 tokens alike: `safe` is one token, `unsafe` two; the four leads are 0, 1, 2 and 1 more.
    let prompt = Extended { prefix: (), rows: vec![vec![0.0; VOCABULARY]] };
    let Ok(answer) = strings(&split, 0.0).read(&Constant(0.0), prompt);
    let verdict = answer.unwrap();
    assert_near(verdict.p_unsafe, 1.0 / 301.0);
    let leads = 1.0 + 3.0 / 300.0;
    assert_near(verdict.mass, (1.0 / 300.0) * leads * (1.0 + 1.0 / 300.0));
}

#[test]
fn logits_of_any_size_are_read_stably() {
    let [words, ..] = tokenizers();
    for shift in [-1e4, 1e4] {
        let model = Planned { shift, ..Planned::new(&words, &[("safe", 0.25), ("unsafe\nS1\n", 0.75)]) };
        let verdict = read(&words, &model).unwrap();
        // f32 logits near 10,000 are steps of .001 apart.
        assert!((verdict.p_unsafe - 0.75).abs() < 1e-3, "{verdict:?}");
    }
}

#[test]
fn a_tokenizer_that_cannot_tell_the_verdicts_apart_is_refused() {
    struct Blind(BTreeMap<String, u32>);
    impl Tokenize for Blind {
        fn encode_text(&self, _: &str) -> Vec<u32> {
            vec![0]
        }

        fn control_tokens(&self) -> &BTreeMap<String, u32> {
            &self.0
        }
    }
    let error = VerdictStrings::new(&[], &Blind(BTreeMap::new()), 0.5).unwrap_err().to_string();
    assert!(error.contains("hint"), "{error}");
}
