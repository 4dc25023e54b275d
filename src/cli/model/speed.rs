//! `throughline model speed`: tokens a second of prefill.

use std::io::{self, Write};
use std::time::Instant;

use anyhow::ensure;
use serde::Serialize;
use throughline::engine::{KernelName, Model, Read, Sequence, load_with};

use super::super::EXIT_CLEAN;
use super::super::args::{ModelSpeedArgs, Shape};
use super::super::limits::{threads, use_threads};

const SHAPES: [Shape; 3] =
    [Shape { sequences: 1, tokens: 512 }, Shape { sequences: 4, tokens: 512 }, Shape { sequences: 1, tokens: 2_048 }];

#[derive(Serialize)]
struct Speed {
    model: String,
    sha256: String,
    device: String,
    dtype: String,
    threads: usize,
    /// What the kernel's matrix products reach from the nearest caches, in 10⁹ floating-point operations a second.
    ceiling_gflops: Option<f64>,
    shapes: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    sequences: usize,
    tokens_each: usize,
    repeats: u16,
    seconds_median: f64,
    seconds_min: f64,
    tokens_per_second: f64,
    /// Of the products and attention alone: two for every weight, four for every number of every key seen.
    gflops: f64,
}

pub fn run(args: &ModelSpeedArgs) -> anyhow::Result<u8> {
    use_threads(args.compute.threads)?;
    let settings = args.compute.load_settings();
    let model = load_with(&super::source(&args.model)?, &settings)?;
    let shapes = if args.shape.is_empty() { &SHAPES[..] } else { &args.shape };
    let positions_max = model.info.positions_max;
    for shape in shapes {
        ensure!(
            shape.tokens <= positions_max,
            "--shape has sequences of {} tokens, the limit of this model is {positions_max}; hint: a smaller shape",
            shape.tokens
        );
    }
    let ceiling_gflops = model.info.kernel.and_then(KernelName::ceiling).map(|flops| flops / 1e9);
    let shapes = shapes.iter().map(|&shape| measure(&model, shape, args.repeat)).collect::<anyhow::Result<_>>()?;
    let info = &model.info;
    let speed = Speed {
        model: info.name.clone(),
        sha256: info.sha256.clone(),
        device: info.device.clone(),
        dtype: info.dtype.clone(),
        threads: threads(),
        ceiling_gflops,
        shapes,
    };
    tell(&speed, args.json)?;
    Ok(EXIT_CLEAN)
}

fn measure(model: &Model, shape: Shape, repeats: u16) -> anyhow::Result<Measured> {
    let ids = random_ids(shape, model.info.vocab_size as u64);
    let last = [shape.tokens - 1];
    let batch: Vec<Sequence> =
        ids.chunks(shape.tokens).map(|tokens| Sequence { prefix: None, tokens, read: Read::Hidden(&last) }).collect();
    model.backend().forward(&batch)?;
    let mut seconds = Vec::with_capacity(usize::from(repeats));
    for _ in 0..repeats {
        let start = Instant::now();
        model.backend().forward(&batch)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let tokens_per_second = ids.len() as f64 / median;
    Ok(Measured {
        sequences: shape.sequences,
        tokens_each: shape.tokens,
        repeats,
        seconds_median: median,
        seconds_min: seconds[0],
        tokens_per_second,
        gflops: model.backend().config().prefill_flop_per_token(shape.tokens) * tokens_per_second / 1e9,
    })
}

/// Ids without an order, the same in every run (Knuth's MMIX generator, TAOCP vol. 2, 3.3.4).
fn random_ids(shape: Shape, vocab_size: u64) -> Vec<u32> {
    let mut state = 42u64;
    (0..shape.sequences * shape.tokens)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % vocab_size.max(1)) as u32
        })
        .collect()
}

fn tell(speed: &Speed, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, speed)?;
        writeln!(out)?;
        return Ok(());
    }
    let Speed { model, device, dtype, threads, .. } = speed;
    writeln!(out, "{model} on {device} ({dtype}), {threads} threads")?;
    writeln!(out, "{:>10} {:>12} {:>12} {:>12} {:>12}", "shape", "median s", "tokens/s", "GFLOP/s", "of ceiling")?;
    for shape in &speed.shapes {
        let name = format!("{}x{}", shape.sequences, shape.tokens_each);
        let share =
            speed.ceiling_gflops.map_or("-".into(), |ceiling| format!("{:.0} %", 100.0 * shape.gflops / ceiling));
        let (seconds, tokens, gflops) = (shape.seconds_median, shape.tokens_per_second, shape.gflops);
        writeln!(out, "{name:>10} {seconds:>12.3} {tokens:>12.0} {gflops:>12.1} {share:>12}")?;
    }
    if let Some(ceiling) = speed.ceiling_gflops {
        writeln!(
            out,
            "ceiling: {ceiling:.0} GFLOP/s, the kernel's matrix product on {threads} threads from the nearest caches"
        )?;
    }
    Ok(())
}
