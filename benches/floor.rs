//! How near prefill comes to what this machine can do at all:
//!
//! ```text
//! cargo bench --bench floor -- [--embedded-only] [--rounds 3] [--kernel NAME] [--markdown]
//! ```
//!
//! Measures ceilings first: the kernel's instruction from registers, its product from the nearest caches, and memory, each with one thread
//! and with all. Then a prefill of one sequence of every window, all its positions read, by the embedded model and by a model of the shape
//! of Llama-Guard-3-1B, with random weights: 2 GB in a temporary folder (`TMPDIR` says where) until they are packed, and 2 GB in memory in
//! bfloat16, 4 GB in f32; besides, until then, half a GB a thread. `--embedded-only` leaves it out. The fastest of all rounds counts.
//! `benches/FLOOR.md` says what the numbers mean; `--markdown` prints its measured block. `RAYON_NUM_THREADS` sets the threads.

use std::fmt::Display;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use half::bf16;
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use throughline::engine::config::LlamaConfig;
use throughline::engine::{KernelName, LoadSettings, Model, ModelSource, Read, Sequence, load_with};

/// Tokens: a short message by itself, whose floor is memory, and windows, whose floor is arithmetic.
const WINDOWS: [usize; 5] = [16, 512, 2_048, 4_096, 8_192];
/// The shortest sequence that is divided among threads as windows are.
const WINDOW_MIN: usize = 512;
/// Rows that the engine takes through a layer together (`BLOCK` of `src/engine/cpu/mod.rs`).
const ROWS: usize = 64;
/// Bytes that are read, and as many that are written: more than caches hold.
const BUFFER_BYTES: usize = 512 << 20;
/// The fastest of them counts: what disturbs only slows.
const BUFFER_ROUNDS: usize = 5;
/// Rows of the random model's embedding, of Llama's 128,256: a token reads one of them, however many there are.
const RANDOM_VOCABULARY: usize = 4_096;
/// Between them stands what `--markdown` prints.
const MARKS: [&str; 2] = ["<!-- measured: begin -->", "<!-- measured: end -->"];

struct Asked {
    kernel: KernelName,
    rounds: usize,
    embedded_only: bool,
    markdown: bool,
}

impl Asked {
    fn read() -> Self {
        let after = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
        let is_there = |name: &str| std::env::args().any(|argument| argument == name);
        let rounds = after("--rounds")
            .map_or(3, |text| text.parse::<usize>().unwrap_or_else(|_| panic!("--rounds {text}: no number")).max(1));
        let kernel = after("--kernel")
            .map_or(KernelName::best(), |text| text.parse().unwrap_or_else(|error| panic!("--kernel {text}: {error}")));
        assert!(kernel != KernelName::Candle, "--kernel candle: only kernels of our own have a ceiling");
        Self { kernel, rounds, embedded_only: is_there("--embedded-only"), markdown: is_there("--markdown") }
    }
}

/// What no code can exceed here, a second, on the threads of the pool it was measured in.
#[derive(Clone, Copy)]
struct Ceilings {
    /// Floating-point operations; `None` where the kernel has no one instruction to multiply and add by.
    instruction: Option<f64>,
    product: f64,
    /// Bytes.
    reading: f64,
    copying: f64,
}

impl Ceilings {
    fn measure(kernel: KernelName) -> Self {
        let product = kernel.ceiling().expect("a kernel that this processor has");
        Self { instruction: kernel.instruction_ceiling(), product, reading: reading(), copying: copying() }
    }

    fn operations(&self) -> f64 {
        self.instruction.unwrap_or(self.product)
    }

    fn bytes(&self) -> f64 {
        self.reading.max(self.copying)
    }
}

/// One window of a model.
struct Window {
    tokens: usize,
    /// Of a token: floating-point operations.
    flop: f64,
    /// Of a token: bytes that come from memory and go there at the least.
    bytes: f64,
    /// Of a token: bytes through the outer caches, by blocks of [`ROWS`].
    streamed: f64,
    /// Of a token; `None`: the model has no such positions.
    seconds: Option<f64>,
}

impl Window {
    fn floor_seconds(&self, ceilings: &Ceilings) -> f64 {
        (self.flop / ceilings.operations()).max(self.bytes / ceilings.bytes())
    }

    fn is_bound_by_memory(&self, ceilings: &Ceilings) -> bool {
        self.bytes / ceilings.bytes() > self.flop / ceilings.operations()
    }
}

fn main() {
    let asked = Asked::read();
    let settings = LoadSettings { kernel: Some(asked.kernel), ..LoadSettings::default() };
    eprintln!("ceilings …");
    let alone = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let one = alone.install(|| Ceilings::measure(asked.kernel));
    let all = Ceilings::measure(asked.kernel);
    if asked.markdown {
        println!("{}\n", MARKS[0]);
    }
    tell_ceilings(&asked, &one, &all);
    let embedded = load_with(&ModelSource::Embedded, &settings).expect("the embedded model");
    tell(&asked, "The embedded model", &embedded, &all);
    drop(embedded);
    if !asked.embedded_only {
        eprintln!("random weights …");
        let folder = tempfile::tempdir().expect("a temporary folder");
        write_random(folder.path()).expect("2 GB in a temporary folder");
        let source = ModelSource::Path(folder.path().to_owned());
        let random = load_with(&source, &settings).expect("the model just written");
        // It is packed: nothing reads the files any more.
        drop(folder);
        tell(&asked, "The shape of Llama-Guard-3-1B", &random, &all);
    }
    if asked.markdown {
        println!("\n{}", MARKS[1]);
    }
}

/// Bytes a second that the pool's threads read.
fn reading() -> f64 {
    // Ones: of zeros nobody has written, the system has one page alone.
    let from = vec![1u64; BUFFER_BYTES / size_of::<u64>()];
    let part = from.len().div_ceil(rayon::current_num_threads());
    let sum = |part: &[u64]| part.iter().fold(0u64, |sum, number| sum.wrapping_add(*number));
    BUFFER_BYTES as f64 / fastest(|| drop(black_box(from.par_chunks(part).map(sum).collect::<Vec<_>>())))
}

/// Bytes a second that the pool's threads read and write, both counted, as STREAM does (McCalpin 1995, *Memory bandwidth and machine
/// balance in current high performance computers*).
fn copying() -> f64 {
    let from = vec![1u64; BUFFER_BYTES / size_of::<u64>()];
    let mut to = vec![2u64; from.len()];
    let part = from.len().div_ceil(rayon::current_num_threads());
    let seconds = fastest(|| {
        to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&to);
    });
    2.0 * BUFFER_BYTES as f64 / seconds
}

fn fastest(mut work: impl FnMut()) -> f64 {
    let seconds = (0..BUFFER_ROUNDS).map(|_| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// The fastest of all rounds of each window that the model has positions for.
fn windows(asked: &Asked, model: &Model) -> Vec<Window> {
    let config = model.backend().config();
    // Of weights in eight bits it is one; keys and values have two or four, but are few.
    let number_bytes = match asked.kernel.dtype() {
        "int8" => 1,
        "bf16" => 2,
        _ => 4,
    };
    let of = |tokens: usize| Window {
        tokens,
        flop: config.prefill_flop_per_token(tokens),
        bytes: config.prefill_bytes_per_token(tokens, tokens, number_bytes),
        streamed: config.prefill_bytes_per_token(tokens, ROWS, number_bytes),
        seconds: (tokens <= config.positions_max).then(|| {
            eprintln!("{tokens} tokens …");
            let seconds = (0..asked.rounds).map(|_| prefill_seconds(model, config, tokens));
            seconds.fold(f64::INFINITY, f64::min) / tokens as f64
        }),
    };
    WINDOWS.map(of).into()
}

/// One pass over one sequence. All positions are read, so that the last layer is computed at all of them.
fn prefill_seconds(model: &Model, config: &LlamaConfig, tokens: usize) -> f64 {
    // Knuth's multiplicative hash (The Art of Computer Programming 3, §6.4).
    let id = |at: usize| (at as u32).wrapping_mul(2_654_435_761) % config.vocab_size as u32;
    let (ids, every): (Vec<u32>, Vec<usize>) = (0..tokens).map(|at| (id(at), at)).unzip();
    let began = Instant::now();
    let sequence = Sequence { prefix: None, tokens: &ids, read: Read::Hidden(&every) };
    let outputs = model.backend().forward(&[sequence]).expect("a sequence within the model's limits");
    let seconds = began.elapsed().as_secs_f64();
    black_box(outputs);
    seconds
}

fn tell_ceilings(asked: &Asked, one: &Ceilings, all: &Ceilings) {
    let row = |name: &str, of: &dyn Fn(&Ceilings) -> Option<f64>| {
        let number = |ceilings| of(ceilings).map_or("-".into(), |rate| format!("{:.1}", rate / 1e9));
        vec![name.to_owned(), number(one), number(all)]
    };
    let rows = [
        row("the instruction, from registers, GFLOP/s", &|ceilings| ceilings.instruction),
        row("our product, from the nearest caches, GFLOP/s", &|ceilings| Some(ceilings.product)),
        row("reading memory, GB/s", &|ceilings| Some(ceilings.reading)),
        row("copying memory, read and written, GB/s", &|ceilings| Some(ceilings.copying)),
    ];
    println!("Kernel `{}` ({}).\n", asked.kernel, asked.kernel.dtype());
    let threads = format!("{} threads", rayon::current_num_threads());
    table(&["ceiling", "1 thread", &threads], &rows);
}

fn tell(asked: &Asked, name: &str, model: &Model, ceilings: &Ceilings) {
    let windows = windows(asked, model);
    let rows: Vec<Vec<String>> = windows.iter().map(|window| row(window, ceilings)).collect();
    println!("\n{name}, {} layers, the fastest of {} rounds.\n", model.info.layers, asked.rounds);
    let head = [
        "tokens",
        "MFLOP a token",
        "kB a token",
        "floor, µs a token",
        "measured",
        "tokens/s",
        "GFLOP/s",
        "of the floor",
        "of our product",
        "GB/s by blocks",
    ];
    table(&head, &rows);
    println!("\n{}", parts(&windows, ceilings));
}

fn row(window: &Window, ceilings: &Ceilings) -> Vec<String> {
    let floor = window.floor_seconds(ceilings);
    let bound = if window.is_bound_by_memory(ceilings) { "memory" } else { "arithmetic" };
    let known = [
        window.tokens.to_string(),
        format!("{:.1}", window.flop / 1e6),
        format!("{:.1}", window.bytes / 1e3),
        format!("{:.1} ({bound})", 1e6 * floor),
    ];
    let measured = match window.seconds {
        None => std::array::from_fn(|at| if at == 0 { "beyond its positions".into() } else { "-".into() }),
        Some(seconds) => [
            format!("{:.1}", 1e6 * seconds),
            format!("{:.0}", 1.0 / seconds),
            format!("{:.1}", window.flop / seconds / 1e9),
            percent(floor / seconds),
            percent(window.flop / seconds / ceilings.product),
            format!("{:.1}", window.streamed / seconds / 1e9),
        ],
    };
    known.into_iter().chain(measured).collect()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

/// Attention and the rest told apart: operations of attention grow with the window, all others do not, so the line through the shortest
/// window and the longest has the time of one in its slope, and that of the other in where it begins.
fn parts(windows: &[Window], ceilings: &Ceilings) -> String {
    let measured = |window: &&Window| window.tokens >= WINDOW_MIN && window.seconds.is_some();
    let ends = (windows.iter().find(measured), windows.iter().rfind(measured));
    let (Some(first), Some(last)) = ends else { return "No window was measured.".into() };
    let (Some(first_seconds), Some(last_seconds)) = (first.seconds, last.seconds) else { return String::new() };
    let more = last.flop - first.flop;
    let attention_rate = more / (last_seconds - first_seconds);
    // Half of the window's keys, and half a one: see `LlamaConfig::prefill_flop_per_token`.
    let attention = more * (first.tokens + 1) as f64 / (last.tokens - first.tokens) as f64;
    let rest_rate = (first.flop - attention) / (first_seconds - attention / attention_rate);
    if !(attention_rate.is_finite() && attention_rate > 0.0 && rest_rate > 0.0) {
        return "Attention and the rest cannot be told apart: the machine was disturbed.".into();
    }
    let part =
        |rate: f64| format!("{:.1} GFLOP/s ({} of the ceiling)", rate / 1e9, percent(rate / ceilings.operations()));
    format!(
        "From {} to {} tokens: attention, softmax included, at {}; all that does not grow with the window at {}.",
        first.tokens,
        last.tokens,
        part(attention_rate),
        part(rest_rate)
    )
}

/// A table in Markdown, its columns of a width.
fn table<T: Display>(head: &[T], rows: &[Vec<String>]) {
    let head: Vec<String> = head.iter().map(T::to_string).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).chain([&head[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    };
    line(&head);
    let rule =
        |(column, &width): (usize, &usize)| format!("{}{}", "-".repeat(width - 1), if column == 0 { '-' } else { ':' });
    line(&widths.iter().enumerate().map(rule).collect::<Vec<_>>());
    rows.iter().for_each(|row| line(row));
}

/// Writes a model of the shape of Llama-Guard-3-1B, which is that of Llama-3.2-1B, but for its vocabulary.
fn write_random(folder: &Path) -> std::io::Result<()> {
    let config = json!({
        "model_type": "llama", "vocab_size": RANDOM_VOCABULARY, "hidden_size": 2_048, "intermediate_size": 8_192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
        "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "max_position_embeddings": 131_072,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8_192
        },
        "tie_word_embeddings": true, "hidden_act": "silu"
    })
    .to_string();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": {"word": 0}, "unk_token": "word"}
    });
    let shape = LlamaConfig::from_hf_json(&config).expect("a Llama");
    std::fs::write(folder.join("config.json"), config)?;
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string())?;
    write_tensors(&tensors(&shape), &folder.join("model.safetensors"))
}

/// Names and shapes of a checkpoint's tensors: matrices `(out, in)`, vectors `(size)`.
fn tensors(config: &LlamaConfig) -> Vec<(String, Vec<usize>)> {
    let (c, i) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let of_layer = [
        ("input_layernorm", vec![c]),
        ("self_attn.q_proj", vec![q, c]),
        ("self_attn.k_proj", vec![kv, c]),
        ("self_attn.v_proj", vec![kv, c]),
        ("self_attn.o_proj", vec![c, q]),
        ("post_attention_layernorm", vec![c]),
        ("mlp.gate_proj", vec![i, c]),
        ("mlp.up_proj", vec![i, c]),
        ("mlp.down_proj", vec![c, i]),
    ];
    let ends =
        [("model.embed_tokens.weight".into(), vec![config.vocab_size, c]), ("model.norm.weight".into(), vec![c])];
    let layer = |layer: usize| {
        let named = |(name, shape): &(&str, Vec<usize>)| (format!("model.layers.{layer}.{name}.weight"), shape.clone());
        of_layer.iter().map(named).collect::<Vec<_>>()
    };
    ends.into_iter().chain((0..config.layers).flat_map(layer)).collect()
}

/// A safetensors file: the header's length in 8 bytes, the header in JSON, the numbers. Vectors, which are norms' weights, are ones; of
/// matrices the numbers are spread evenly so that what they make of a row is as large as the row.
fn write_tensors(tensors: &[(String, Vec<usize>)], path: &Path) -> std::io::Result<()> {
    let mut end = 0;
    let mut described = |(name, shape): &(String, Vec<usize>)| {
        let begin = end;
        end += shape.iter().product::<usize>() * size_of::<bf16>();
        (name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}))
    };
    let mut header = Value::Object(tensors.iter().map(&mut described).collect::<Map<_, _>>()).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    // Knuth's MMIX generator (The Art of Computer Programming 2, §3.3.4).
    let mut state = 42u64;
    for (_, shape) in tensors {
        let depth = shape[shape.len() - 1];
        let spread = (3.0 / depth as f32).sqrt();
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            spread * ((state >> 40) as f32 / (1u32 << 23) as f32 - 1.0)
        };
        for _ in 0..shape.iter().product::<usize>() / depth {
            let row = (0..depth).map(|_| if shape.len() == 1 { 1.0 } else { number() });
            let bytes: Vec<u8> = row.flat_map(|number| bf16::from_f32(number).to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
    }
    out.flush()
}
