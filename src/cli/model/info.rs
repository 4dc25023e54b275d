//! `throughline model info`.

use std::io::{self, Write};

use throughline::engine::{ModelInfo, load};
use throughline::report::safe;

use super::super::EXIT_CLEAN;
use super::super::args::ModelInfoArgs;

pub fn run(args: &ModelInfoArgs) -> anyhow::Result<u8> {
    let info = load(&super::source(&args.model)?)?.info;
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &info)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&info).as_bytes())?;
    }
    Ok(EXIT_CLEAN)
}

fn text(info: &ModelInfo) -> String {
    let temperatures: Vec<String> =
        info.temperatures.iter().map(|(head, temperature)| format!("{head} {temperature:.3}")).collect();
    let window = info.window_tokens.map_or_else(|| "not told by the model".into(), |tokens| format!("{tokens} tokens"));
    let rows = [
        ("name", info.name.clone()),
        ("version", info.version.clone().unwrap_or_else(|| "-".into())),
        ("source", info.source.clone()),
        ("sha256", info.sha256.clone()),
        ("size", format!("{:.1} MB", info.weights_bytes as f64 / 1e6)),
        ("parameters", format!("{:.1} million", info.parameters as f64 / 1e6)),
        ("shape", format!("{} layers, hidden {}, {} tokens", info.layers, info.hidden_size, info.vocab_size)),
        ("positions", format!("{} tokens at most", info.positions_max)),
        ("window", window),
        ("message heads", if info.message_heads { "yes".into() } else { "no".into() }),
        ("temperatures", if temperatures.is_empty() { "-".into() } else { temperatures.join(", ") }),
        ("device", format!("{}, {}", info.device, info.dtype)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<14} {}\n", safe::line(value, 400))).collect()
}
