//! The proxy of `throughline serve` as typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use throughline::verdict::Level;

/// Text in bytes that is held back where nothing else is said.
const HOLD_BACK_BYTES: usize = 256;

/// Replies of an upstream.
#[derive(Debug, Args)]
#[command(next_help_heading = "Proxy (POST /v1/chat/completions; builds with the feature outbound)")]
pub struct ProxyArgs {
    /// The OpenAI-compatible server that replies are asked of, as SDKs know it: https://HOST/v1
    #[arg(long, value_name = "URL", env = "THROUGHLINE_UPSTREAM")]
    pub upstream: Option<String>,

    /// A file with the upstream's key; THROUGHLINE_UPSTREAM_KEY goes before it [default: what callers send]
    #[arg(long, value_name = "FILE")]
    pub upstream_key_file: Option<PathBuf>,

    /// Seconds that the upstream may be silent
    #[arg(long, value_name = "COUNT", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub upstream_seconds: u32,

    /// From this level on a prompt or reply that it rests on is blocked: review, senior, urgent, or none for never
    #[arg(long, value_name = "LEVEL", default_value = "urgent", env = "THROUGHLINE_BLOCK_AT")]
    pub block_at: Level,

    /// Text of a streamed reply, in bytes, that may wait to be judged, or `whole`
    #[arg(long, value_name = "COUNT", default_value_t = HoldBackBytes(Some(HOLD_BACK_BYTES)))]
    pub hold_back: HoldBackBytes,

    /// Milliseconds after which text that waits is judged, however little it is
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub hold_back_ms: u32,

    /// The longest reply, in bytes
    #[arg(long, value_name = "COUNT", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1_024..=268_435_456))]
    pub reply_bytes_max: u32,
}

/// A number of bytes, or `whole`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldBackBytes(pub Option<usize>);

impl FromStr for HoldBackBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "whole" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(bytes @ 1..=1_000_000) => Ok(Self(Some(bytes))),
            _ => Err("neither a number from 1 to 1000000 nor `whole`".into()),
        }
    }
}

impl std::fmt::Display for HoldBackBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes}"),
            None => f.write_str("whole"),
        }
    }
}
