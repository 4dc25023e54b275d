//! `throughline benchmark …` as typed.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use throughline::benchmark::data::Split;

use super::{ComputeArgs, ReadingArgs};

const BENCHMARK_HELP: &str = "\
EXAMPLE
  throughline benchmark datasets/arcs --split test --report bench.html
  throughline benchmark datasets/arcs --split dev --output dev.json
  throughline benchmark datasets/arcs --thresholds dev.json --model guard.gguf
  throughline benchmark datasets/arcs --from scores.jsonl --scores tfidf=t.jsonl
  throughline benchmark datasets/arcs --model none --targets datasets/targets
  throughline benchmark datasets/arcs --innocents held.jsonl --after 100
  throughline benchmark hatecheck.jsonl.gz --samples 200

DATA
  Author files (.txt in the writing format of datasets/README.md, or a folder
  of them), split as the file splits.json beside them says; or tables (JSON
  lines, CSV, Parquet) with a label map. Maps are built in for convabuse,
  hatecheck, openai_moderation, psychosis_bench, spiral_bench, toxichat and
  xstest, by the file's name.

DETECTORS
  Each model by its arc score, and as baselines from its message scores the
  last user message alone, the mean of the last five, mean, maximum, skewness
  and EWMA slope, with --innocents also the maximum at a threshold by Learn
  then Test; a keyword lexicon; files of scores, a line a history:
  {\"user_id\": \"hale-01\", \"harassment\": 0.2, \"delusion\": 1.4}
";

/// Judge models and other detectors against labelled histories
///
/// Runs every model over the histories and compares all detectors on equal terms: ranking, alarms and
/// their delay, agreement of levels, calibration, each with a 95% bootstrap interval over histories (an
/// original is drawn with its twin). Writes tables to standard output; JSON with --output and a page
/// with plots with --report.
#[derive(Debug, Args)]
#[command(after_help = BENCHMARK_HELP)]
pub struct BenchmarkArgs {
    /// Author files, folders of them, or labelled tables
    #[arg(required = true, value_name = "DATA")]
    pub paths: Vec<PathBuf>,

    /// Which part of the data: train, dev, test, innocents, all
    #[arg(long, value_name = "SPLIT", default_value = "test")]
    pub split: Split,

    /// `embedded`, a folder, a .gguf file, ORG/NAME of a hub, or `none`; repeatable [default: embedded,
    /// unless --from is given]
    #[arg(long, value_name = "MODEL")]
    pub model: Vec<String>,

    /// What `throughline score --output` wrote of the same histories, instead of running the model
    /// again; arcs are computed anew from its message scores; repeatable
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,

    /// Scores of another detector, as JSON lines; repeatable
    #[arg(long, value_name = "NAME=FILE")]
    pub scores: Vec<NamedFile>,

    /// A folder that says who is who in author files (datasets/targets): how well the people of a history are told
    /// apart, and whom a message is about; no model is needed for it
    #[arg(long, value_name = "FOLDER")]
    pub targets: Option<PathBuf>,

    /// What the fields of a table mean: the name of a built-in map, or a TOML file
    #[arg(long, value_name = "MAP")]
    pub labels: Option<String>,

    /// Thresholds, and cut points of levels, from the --output of a benchmark on other data, by detector [default: the policy's for
    /// arcs, 0.5 for messages]
    #[arg(long, value_name = "FILE")]
    pub thresholds: Option<PathBuf>,

    /// What `throughline score --output` wrote of innocent users, by one of the models: long lives are put together from their
    /// sessions, and every detector of that model is judged at the threshold that so few of them ever reach
    #[arg(long, value_name = "FILE", conflicts_with = "thresholds")]
    pub innocents: Option<PathBuf>,

    /// The share of innocent lives that may ever alarm
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, requires = "innocents")]
    pub ever: f64,

    /// How many innocent lives
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, requires = "innocents", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub lives: u32,

    /// Sessions of a life, one every three days
    #[arg(long, value_name = "COUNT", default_value_t = 200, requires = "innocents", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub life_sessions: u32,

    /// Innocent sessions, drawn in the same way, after which every history whose arcs are judged begins: how arcs that begin late in
    /// a life are found. They have scores and no text, so that other detectors read the histories alone
    #[arg(long, value_name = "SESSIONS", default_value_t = 0, requires = "innocents", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub after: u32,

    /// All figures as JSON, written whole or not at all; `-` for standard output instead of the tables
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// One self-contained HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Bootstrap draws; 0 for no intervals
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub samples: u32,

    /// Of the bootstrap, and of the drawing of lives
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    #[command(flatten)]
    pub reading: ReadingArgs,

    /// From which scores levels hold (TOML); its rules are not judged here [default: the built-in policy]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_POLICY")]
    pub policy: Option<PathBuf>,

    #[command(flatten)]
    pub compute: ComputeArgs,

    /// No progress; errors are still told
    #[arg(long, short, value_name = "BOOL", env = "THROUGHLINE_QUIET", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub quiet: Option<bool>,
}

/// `NAME=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    pub name: String,
    pub file: PathBuf,
}

impl std::str::FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.trim().is_empty() && !file.is_empty() => {
                Ok(Self { name: name.trim().to_owned(), file: file.into() })
            }
            _ => Err(format!("`{text}` is no name and file; hint: NAME=FILE, such as tfidf=tfidf.jsonl")),
        }
    }
}
