//! Reading verdicts from a model whose answers are planned: every probability is known beforehand.

#![cfg(feature = "guard")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use throughline::guard::verdict::{
    Answer, Asked, Extended, LEAD_UNREAD_MAX, NextToken, Prompt, Verdict, VerdictStrings,
};
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
    /// The rows that every pass was asked for.
    passes: RefCell<Vec<usize>>,
}

impl Planned {
    fn new(tokenizer: &Words, answers: &[(&str, f64)]) -> Self {
        let encode = |(text, p): &(&str, f64)| (tokenizer.encode_text(text), *p);
        Self { answers: answers.iter().map(encode).collect(), shift: 0.0, passes: RefCell::default() }
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

    fn extend(&self, from: &Vec<u32>, tokens: &[u32], rows: usize) -> Result<Extended<Vec<u32>>, Infallible> {
        self.extend_each(&[Asked { from, tokens, rows }]).map(|mut one| one.remove(0))
    }

    fn extend_each(&self, asked: &[Asked<Vec<u32>>]) -> Result<Vec<Extended<Vec<u32>>>, Infallible> {
        self.passes.borrow_mut().push(asked.iter().map(|one| one.rows).sum());
        Ok(asked.iter().map(|one| rows_after(one, |said| self.logits(&said[PROMPT.len()..]))).collect())
    }

    fn back(&self, prefix: &Vec<u32>, tokens: usize) -> Result<Vec<u32>, Infallible> {
        Ok(prefix[..prefix.len() - tokens].to_vec())
    }
}

/// Stands for the prompt: its first token was read before.
const PROMPT: [u32; 3] = [7, 8, 9];

/// The rows asked for, by all tokens up to each.
fn rows_after(asked: &Asked<Vec<u32>>, logits: impl Fn(&[u32]) -> Vec<f32>) -> Extended<Vec<u32>> {
    let prefix = [asked.from.as_slice(), asked.tokens].concat();
    let rows = (0..asked.rows).rev().map(|back| logits(&prefix[..prefix.len() - back])).collect();
    Extended { prefix, rows }
}

const CODES: [&str; 4] = ["S1", "S2", "S10", "S12"];

fn strings(tokenizer: &Words, mass_min: f32) -> VerdictStrings {
    VerdictStrings::new(&CODES.map(str::to_owned), tokenizer, mass_min).unwrap()
}

fn read(tokenizer: &Words, model: &Planned) -> Result<Verdict, GuardError> {
    // Whatever is expected, the answer is the same to the bit.
    let read = |lead| answer(&strings(tokenizer, 0.5), model, lead).verdict;
    let verdict = read(0);
    (1..5).for_each(|lead| assert_eq!(read(lead), verdict, "lead {lead}"));
    verdict
}

fn answer<N: NextToken<Prefix = Vec<u32>, Error = Infallible>>(
    strings: &VerdictStrings,
    model: &N,
    lead: usize,
) -> Answer<Vec<u32>> {
    let Ok(answer) = strings.read(model, &Prompt { from: &vec![PROMPT[0]], tokens: &PROMPT[1..], lead });
    assert_eq!(answer.prefix, PROMPT, "a prefix ends where the prompt does");
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

        fn extend(&self, (): &(), _: &[u32], rows: usize) -> Result<Extended<()>, Infallible> {
            Ok(Extended { prefix: (), rows: vec![vec![self.0; VOCABULARY]; rows] })
        }

        fn back(&self, (): &(), _: usize) -> Result<(), Infallible> {
            Ok(())
        }
    }
    let prompt = Prompt { from: &(), tokens: &PROMPT, lead: 0 };
    let [words, split, _] = tokenizers();
    for value in [0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let Ok(Answer { verdict, .. }) = strings(&words, 0.5).read(&Constant(value), &prompt);
        assert!(matches!(verdict, Err(GuardError::Unsure { .. })), "{value}: {verdict:?}");
    }
    // Of 300 tokens alike: `safe` is one token, `unsafe` two; the four leads are 0, 1, 2 and 1 more.
    let Ok(Answer { verdict, .. }) = strings(&split, 0.0).read(&Constant(0.0), &prompt);
    let verdict = verdict.unwrap();
    assert_near(verdict.p_unsafe, 1.0 / 301.0);
    let leads = 1.0 + 3.0 / 300.0;
    assert_near(verdict.mass, (1.0 / 300.0) * leads * (1.0 + 1.0 / 300.0));
}

#[test]
fn an_expected_lead_takes_one_pass_and_another_two() {
    // `unsafe` whole and split; numbers are tokens of their own, so that no code goes on.
    for (tokenizer, chain) in tokenizers().iter().zip([4, 5]) {
        let (strings, answers) =
            (strings(tokenizer, 0.5), [("\n\nsafe", 0.7), ("\n\nunsafe\nS1\n", 0.2), ("\n\nunsafe\nS10\n", 0.1)]);
        let expected = strings.lead("\n\n");
        let read = |lead| {
            let model = Planned::new(tokenizer, &answers);
            let Answer { verdict, lead: next, .. } = answer(&strings, &model, lead);
            assert_eq!(next, expected, "what the next prompt may expect");
            (verdict.unwrap(), model.passes.take())
        };
        let (verdict, passes) = read(expected);
        // A row after the prompt and after each token of `\n\n unsafe \n S`.
        assert_eq!(passes, [chain + 1]);
        assert_near(verdict.p_unsafe, 0.3);
        assert_near(verdict.categories[2], 1.0 / 3.0);
        let (again, passes) = read(strings.lead(""));
        // The chain without its white space was in vain.
        assert_eq!(passes, [chain, chain]);
        assert_eq!(again, verdict);
    }
    // Of bytes, `safe` and `S1` go on where the chain does not: those together are the second pass.
    let [.., bytes] = tokenizers();
    let (strings, model) = (strings(&bytes, 0.5), Planned::new(&bytes, &[("safe", 0.6), ("unsafe\nS1\n", 0.4)]));
    answer(&strings, &model, strings.lead("")).verdict.unwrap();
    assert_eq!(*model.passes.borrow(), ["unsafe\nS".len() + 1, "saf".len() + 1]);
}

#[test]
fn what_is_left_out_is_bounded_and_said() {
    let [words, ..] = tokenizers();
    let strings = strings(&words, 0.5);
    let read = |p: f64| {
        let model = Planned::new(&words, &[("\n\nsafe", 0.6), ("\n\nunsafe\nS1\n", 0.4 - p), ("\nunsafe\nS1\n", p)]);
        let verdict = answer(&strings, &model, strings.lead("\n\n")).verdict.unwrap();
        (verdict, model.passes.take().len())
    };
    // Both verdicts after `\n` begin with it: together twice its probability at most.
    let (verdict, passes) = read(4e-7);
    assert_eq!(passes, 1);
    assert!((verdict.mass_unread_max - 8e-7).abs() < 1e-9, "{verdict:?}");
    // To the roundings of f32 logits.
    assert!((1.0 - verdict.mass - 4e-7).abs() < 1.5e-7, "what was not read is not counted: {verdict:?}");
    assert!((verdict.p_unsafe - 0.4).abs() < verdict.mass_unread_max / verdict.mass, "{verdict:?}");
    let (verdict, passes) = read(6e-7);
    assert_eq!(passes, 2);
    assert!(verdict.mass_unread_max < 1e-12 && (1.0 - verdict.mass).abs() < 1.5e-7, "{verdict:?}");
    // Where no lead is likely, the likeliest is read all the same.
    let model = Planned::new(&words, &[("\nunsafe\nS1\n", LEAD_UNREAD_MAX / 10.0), ("I am", 0.9)]);
    let unsure = answer(&strings, &model, 0).verdict.unwrap_err();
    let GuardError::Unsure { mass, .. } = unsure else { panic!("{unsure}") };
    assert!((f64::from(mass) - LEAD_UNREAD_MAX / 10.0).abs() < 1e-9, "{mass}");
}

/// Logits between 0 and 2 by the tokens said and the next one: nothing is likely, and no lead negligible.
struct Noise;

impl Noise {
    fn logits(said: &[u32]) -> Vec<f32> {
        let mix = |hash: u64, next: u64| (hash ^ next).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        let hash = said.iter().fold(1, |hash, &token| mix(hash, u64::from(token) + 1));
        let logit = |token| (mix(mix(hash, token), token) >> 40) as f32 / (1 << 23) as f32;
        (0..VOCABULARY as u64).map(logit).collect()
    }

    /// Of these tokens after the prompt, one by one.
    fn probability(tokens: &[u32]) -> f64 {
        let next = |at: usize| {
            let logits = Self::logits(&[&PROMPT[..], &tokens[..at]].concat());
            let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            f64::from(logits[tokens[at] as usize]).exp() / total
        };
        (0..tokens.len()).map(next).product()
    }
}

impl NextToken for Noise {
    type Prefix = Vec<u32>;
    type Error = Infallible;

    fn empty(&self) -> Vec<u32> {
        Vec::new()
    }

    fn extend(&self, from: &Vec<u32>, tokens: &[u32], rows: usize) -> Result<Extended<Vec<u32>>, Infallible> {
        Ok(rows_after(&Asked { from, tokens, rows }, Self::logits))
    }

    fn back(&self, prefix: &Vec<u32>, tokens: usize) -> Result<Vec<u32>, Infallible> {
        Ok(prefix[..prefix.len() - tokens].to_vec())
    }
}

#[test]
fn all_strings_are_read_where_none_is_negligible() {
    for tokenizer in tokenizers() {
        let of = |text: String| Noise::probability(&tokenizer.encode_text(&text));
        let leads = ["", " ", "\n", "\n\n"];
        let safe: f64 = leads.iter().map(|lead| of(format!("{lead}safe"))).sum();
        let unsafe_ = leads.map(|lead| of(format!("{lead}unsafe")));
        let best = leads[(0..4).max_by(|&a, &b| unsafe_[a].total_cmp(&unsafe_[b])).unwrap()];
        let named = CODES.map(|code| {
            let tokens = tokenizer.encode_text(&format!("{best}unsafe\n{code}"));
            // Of longer codes that begin with the same tokens, the next one.
            let longer = CODES.map(|code| tokenizer.encode_text(&format!("{best}unsafe\n{code}")));
            let next = longer.iter().filter_map(|longer| longer.strip_prefix(tokens.as_slice())?.first().copied());
            let all = Noise::probability(&tokens);
            next.collect::<BTreeSet<u32>>()
                .iter()
                .fold(all, |left, &token| left - Noise::probability(&[tokens.as_slice(), &[token]].concat()))
        });
        let strings = strings(&tokenizer, 0.0);
        for lead in 0..4 {
            let verdict = answer(&strings, &Noise, lead).verdict.unwrap();
            let all_unsafe: f64 = unsafe_.iter().sum();
            let near =
                |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{found}, {expected}");
            near(verdict.mass, safe + all_unsafe);
            near(verdict.p_unsafe, all_unsafe / (safe + all_unsafe));
            assert_eq!(verdict.mass_unread_max, 0.0);
            for (&found, expected) in verdict.categories.iter().zip(named) {
                near(found, expected / named.iter().sum::<f64>());
            }
        }
    }
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
