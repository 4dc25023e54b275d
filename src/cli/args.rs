//! The command line as typed. What it comes to is in [`super::settings`].

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};
use throughline::engine::{KernelName, LoadSettings};
use throughline::transcript::read::Format;
use throughline::verdict::Level;

mod benchmark;
mod policy;
#[cfg(feature = "server")]
mod proxy;
#[cfg(feature = "server")]
mod serve;

pub use benchmark::{BenchmarkArgs, NamedFile};
pub use policy::{PolicyArgs, PolicyCommand, PolicyFileArgs, PolicySimulateArgs};
#[cfg(feature = "server")]
pub use proxy::ProxyArgs;
#[cfg(feature = "server")]
pub use serve::{DoctorArgs, LogForm, ServeArgs, StoreArgs, StoreAt, StoreCommand, TokenArgs};

/// Reads the arc, not the message: an offline classifier of conversation risk.
///
/// Reads everything a user said to an assistant over weeks of sessions and says whether a targeted
/// harassment or a delusion reinforcement is building, since which message, on what evidence.
/// A signal for human review, not a diagnosis.
#[derive(Debug, Parser)]
#[command(
    name = "throughline",
    version,
    arg_required_else_help = true,
    after_help = "EXAMPLE\n  throughline score datasets/examples\n  throughline score chats.jsonl --output scores.jsonl --report report.html\n\n\
    EXIT CODES\n  0  clean\n  1  a history at or above --fail-at\n  2  error"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

// A command's text stands at its arguments: a line here would take the place of all its paragraphs.
#[derive(Debug, Subcommand)]
pub enum Command {
    Score(Box<ScoreArgs>),
    Benchmark(Box<BenchmarkArgs>),
    /// Look at a model: what it is, whether it is whole, how fast it is
    Model(ModelArgs),
    /// Look at a policy: what it says, whether it holds together, what it would have done
    Policy(PolicyArgs),
    #[cfg(feature = "server")]
    Serve(Box<ServeArgs>),
    #[cfg(feature = "server")]
    Doctor(Box<DoctorArgs>),
    #[cfg(feature = "server")]
    Token(TokenArgs),
    #[cfg(feature = "server")]
    Store(StoreArgs),
    /// Write a shell's completions to standard output
    #[command(after_help = "EXAMPLE\n  throughline completions bash > throughline.bash && . ./throughline.bash")]
    Completions(CompletionsArgs),
}

const SCORE_HELP: &str = "\
EXAMPLE
  throughline score datasets/examples
  throughline score 'exports/*.json.gz' --report report.html --redact
  throughline score chats.csv --csv-user customer --csv-content body
  throughline score chats.jsonl -o - | jq 'select(.type == \"history\")'
  throughline score chats.jsonl --fail-at review && echo clean

SETTINGS
  Every option can stand in a TOML file (--config FILE; names as the options,
  with _ for -; CSV columns in [csv] without the prefix) or in the environment
  (THROUGHLINE_…; an empty variable counts as unset). An option beats the
  environment, which beats the file. Paths are taken from the current folder.
  Keys that are not known are errors.

EXIT CODES
  0  clean: also when records were left out and the rest was scored; the
     summary counts them
  1  a history at or above --fail-at (without that option never)
  2  error: nothing could be read; or the guard judged no message of a history;
     or, with --strict, anything was left out or refused. Of the last two the
     output is written all the same
";

/// Score transcripts: every message, every user's arcs
///
/// Reads native JSON lines, OpenAI chats, ChatGPT and Claude exports, ShareGPT, WildChat, CSV and
/// plain text, packed with gzip or zstd or not. Writes a summary for people to standard output;
/// JSON lines with --output and a page with --report.
#[derive(Debug, Args)]
#[command(after_help = SCORE_HELP)]
pub struct ScoreArgs {
    /// Files, folders, globs, or `-` for standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// `embedded`, a folder, a .gguf file, or ORG/NAME of a hub; named several times, each reads by itself, and the highest level
    /// counts [default: embedded]
    #[arg(long, value_name = "MODEL", env = "THROUGHLINE_MODEL")]
    pub model: Vec<String>,

    /// The format of every file; told from the content where not given: native, openai, chatgpt,
    /// claude, sharegpt, wildchat, csv, text, parquet
    #[arg(long, value_name = "FORMAT", env = "THROUGHLINE_FORMAT")]
    pub format: Option<Format>,

    /// The user of records that name none
    #[arg(long, value_name = "ID", env = "THROUGHLINE_USER")]
    pub user: Option<String>,

    #[command(flatten)]
    pub csv: CsvArgs,

    /// JSON lines, written whole or not at all; `-` streams them to standard output instead of the
    /// summary
    #[arg(long, short, value_name = "FILE", env = "THROUGHLINE_OUTPUT")]
    pub output: Option<PathBuf>,

    /// One self-contained HTML page
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_REPORT")]
    pub report: Option<PathBuf>,

    /// Exit with 1 when a history is at or above this level: watch, review, senior, urgent
    #[arg(long, value_name = "LEVEL", env = "THROUGHLINE_FAIL_AT")]
    pub fail_at: Option<Level>,

    /// Write `person 1` in the place of the name or relation that a user has for somebody
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_PSEUDONYMOUS_TARGETS", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub pseudonymous_targets: Option<bool>,

    /// Quote no message anywhere, nor a word for somebody; ids stay
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_REDACT", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub redact: Option<bool>,

    /// Read every arc at `review` or above again without the messages that carry it, and tell how few
    /// must go for it to fall below: most often two to six more readings an arc
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_EXPLAIN", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub explain: Option<bool>,

    /// Exit with 2 when any record or file was left out, or any message refused by the guard
    #[arg(long, value_name = "BOOL", env = "THROUGHLINE_STRICT", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub strict: Option<bool>,

    #[command(flatten)]
    pub reading: ReadingArgs,

    /// From which scores levels hold, and what is recommended at each (TOML) [default: the built-in
    /// policy, see `throughline policy show`]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_POLICY")]
    pub policy: Option<PathBuf>,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// Settings (TOML)
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_CONFIG")]
    pub config: Option<PathBuf>,

    /// No progress, no list of problems; errors are still told
    #[arg(long, short, value_name = "BOOL", env = "THROUGHLINE_QUIET", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub quiet: Option<bool>,
}

/// Where the columns of CSV files are.
#[derive(Debug, Args)]
#[command(next_help_heading = "CSV columns (found by their usual names where not given)")]
pub struct CsvArgs {
    /// The user's column
    #[arg(long, value_name = "COLUMN", env = "THROUGHLINE_CSV_USER")]
    pub csv_user: Option<String>,
    /// The session's column
    #[arg(long, value_name = "COLUMN", env = "THROUGHLINE_CSV_SESSION")]
    pub csv_session: Option<String>,
    /// The role's column
    #[arg(long, value_name = "COLUMN", env = "THROUGHLINE_CSV_ROLE")]
    pub csv_role: Option<String>,
    /// The text's column
    #[arg(long, value_name = "COLUMN", env = "THROUGHLINE_CSV_CONTENT")]
    pub csv_content: Option<String>,
    /// The time's column
    #[arg(long, value_name = "COLUMN", env = "THROUGHLINE_CSV_TIMESTAMP")]
    pub csv_timestamp: Option<String>,
    /// The character between fields; `tab` for a tab
    #[arg(long, value_name = "CHAR", env = "THROUGHLINE_CSV_DELIMITER")]
    pub csv_delimiter: Option<String>,
}

/// Look at a model: what it is, whether it is whole, how fast it is
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "EXAMPLE\n  throughline model info\n  throughline model verify\n  throughline model speed --shape 1x512 --shape 8x512"
)]
pub struct ModelArgs {
    #[command(subcommand)]
    pub command: ModelCommand,
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// What a model is: name, digest, size, window, heads
    #[command(after_help = "EXAMPLE\n  throughline model info --json\n  throughline model info --model guard.gguf")]
    Info(ModelInfoArgs),
    /// Whether a model is whole: its digest, its heads, a check of what it says
    #[command(
        after_help = "EXAMPLE\n  throughline model verify\n  throughline model verify --model guard.gguf --sha256 9f86d0…\n\n\
            EXIT CODES\n  0  all checks passed\n  2  one did not, or the model cannot be read"
    )]
    Verify(ModelVerifyArgs),
    /// Tokens a second of prefill, on random token ids
    #[command(
        after_help = "EXAMPLE\n  throughline model speed\n  throughline model speed --shape 1x2048 --threads 4 --json"
    )]
    Speed(ModelSpeedArgs),
}

#[derive(Debug, Args)]
pub struct ModelInfoArgs {
    /// `embedded`, a folder, a .gguf file, or ORG/NAME of a hub
    #[arg(long, value_name = "MODEL", env = "THROUGHLINE_MODEL", default_value = "embedded")]
    pub model: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ModelVerifyArgs {
    /// `embedded`, a folder, a .gguf file, or ORG/NAME of a hub
    #[arg(long, value_name = "MODEL", env = "THROUGHLINE_MODEL", default_value = "embedded")]
    pub model: String,
    /// The digest the weights must have, 64 hexadecimal digits [default: the one this build knows,
    /// or that of FILE.sha256 beside the model]
    #[arg(long, value_name = "HEX")]
    pub sha256: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// How histories are read.
#[derive(Debug, Args)]
pub struct ReadingArgs {
    /// Tokens of a window [default: what the model was trained with, else 2048]
    #[arg(long, value_name = "COUNT", env = "THROUGHLINE_WINDOW_TOKENS")]
    pub window_tokens: Option<usize>,

    /// The family of a guard model whose verdict is read in words [default: told from the model]
    #[arg(long, value_name = "FAMILY", env = "THROUGHLINE_GUARD")]
    pub guard: Option<String>,

    /// Categories and thresholds for a guard model's verdict (TOML)
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_CATEGORIES")]
    pub categories: Option<PathBuf>,
}

/// What a model is computed by.
#[derive(Debug, Args)]
pub struct ComputeArgs {
    /// CPU threads [default: all]
    #[arg(long, value_name = "COUNT", env = "THROUGHLINE_THREADS")]
    pub threads: Option<usize>,

    /// What computes on the CPU: amx-bf16, avx512-bf16, avx512, avx2, neon, portable, candle [default: the first of these that it can
    /// run, avx512 before avx512-bf16 where that is slower]; or amx-int8, avx512-vnni, in 8 bits: faster, less exact
    #[arg(long, value_name = "NAME", env = "THROUGHLINE_KERNEL")]
    pub kernel: Option<KernelName>,
}

impl ComputeArgs {
    pub fn load_settings(&self) -> LoadSettings {
        LoadSettings { kernel: self.kernel, ..LoadSettings::default() }
    }
}

#[derive(Debug, Args)]
pub struct ModelSpeedArgs {
    /// `embedded`, a folder, a .gguf file, or ORG/NAME of a hub
    #[arg(long, value_name = "MODEL", env = "THROUGHLINE_MODEL", default_value = "embedded")]
    pub model: String,
    /// Sequences by tokens of each; repeatable [default: 1x512 4x512 1x2048]
    #[arg(long, value_name = "BxT")]
    pub shape: Vec<Shape>,
    /// Times each shape is run after a first one that is not counted; the median is told
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub repeat: u16,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// A batch to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub sequences: usize,
    pub tokens: usize,
}

/// Tokens of one measured batch.
const SHAPE_TOKENS_MAX: usize = 1 << 20;

impl std::str::FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('x').and_then(|(sequences, tokens)| {
            Some(Self { sequences: sequences.parse().ok()?, tokens: tokens.parse().ok()? })
        });
        match parsed {
            Some(shape) if shape.sequences.saturating_mul(shape.tokens) == 0 => {
                Err(format!("`{text}` has no token; hint: sequences x tokens, such as 8x512"))
            }
            Some(shape) if shape.sequences.saturating_mul(shape.tokens) > SHAPE_TOKENS_MAX => {
                Err(format!("`{text}` is more than {SHAPE_TOKENS_MAX} tokens; hint: measure a smaller batch"))
            }
            Some(shape) => Ok(shape),
            None => Err(format!("`{text}` is no shape; hint: sequences x tokens, such as 8x512")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shapes_are_read_and_bounded() {
        assert_eq!("8x512".parse(), Ok(Shape { sequences: 8, tokens: 512 }));
        for wrong in ["8", "x", "0x9", "8x512x2", "-1x4", "2000000x1", "99999999999999999x99999999999999999"] {
            assert!(wrong.parse::<Shape>().is_err_and(|error| error.contains("hint")), "{wrong}");
        }
    }
}
