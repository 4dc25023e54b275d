//! `throughline policy …` as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const POLICY_HELP: &str = "\
EXAMPLE
  throughline policy show > mine.toml
  throughline policy check mine.toml && throughline policy explain mine.toml
  throughline score chats.jsonl --output scores.jsonl
  throughline policy simulate scores.jsonl --policy mine.toml --base-rate 0.001
";

/// Look at a policy: what it says, whether it holds together, what it would have done
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_help = POLICY_HELP)]
pub struct PolicyArgs {
    #[command(subcommand)]
    pub command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Write the built-in policy, every line explained, to standard output
    #[command(after_help = "EXAMPLE\n  throughline policy show > mine.toml")]
    Show,
    /// Whether a policy file holds together; its digest
    #[command(after_help = "EXAMPLE\n  throughline policy check mine.toml\n\n\
            EXIT CODES\n  0  it does\n  2  it does not, or cannot be read")]
    Check(PolicyFileArgs),
    /// What a policy means, in words
    #[command(after_help = "EXAMPLE\n  throughline policy explain\n  throughline policy explain mine.toml")]
    Explain(PolicyFileArgs),
    /// What policies would have done on transcripts that were scored: users by level, the load on
    /// reviewers a day, what is recommended
    #[command(after_help = "EXAMPLE\n  throughline policy simulate scores.jsonl\n  \
            throughline policy simulate scores.jsonl --policy a.toml --policy b.toml")]
    Simulate(PolicySimulateArgs),
}

#[derive(Debug, Args)]
pub struct PolicyFileArgs {
    /// The policy (TOML) [default: the built-in one]
    #[arg(value_name = "FILE", env = "THROUGHLINE_POLICY")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct PolicySimulateArgs {
    /// What `throughline score --output` wrote
    #[arg(value_name = "SCORES")]
    pub scores: PathBuf,
    /// A policy (TOML); repeatable, to compare [default: the built-in one]
    #[arg(long, value_name = "FILE", env = "THROUGHLINE_POLICY")]
    pub policy: Vec<PathBuf>,
    /// Lives put together from the sessions of these users, who are taken to be innocent: how many of
    /// them are ever called
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub lives: u32,
    /// Sessions of a life
    #[arg(long, value_name = "COUNT", default_value_t = 200, requires = "lives", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub life_sessions: u32,
    /// Days from one session of a life to the next
    #[arg(long, value_name = "DAYS", default_value_t = 3.0, requires = "lives")]
    pub life_gap_days: f64,
    /// Of the drawing of lives
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "lives")]
    pub seed: u64,
    /// How many of all users are cases, 0 to 1: tells which share of those called would be
    #[arg(long, value_name = "SHARE")]
    pub base_rate: Option<f64>,
    /// How many of the cases are called, 0 to 1, for --base-rate
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, requires = "base_rate")]
    pub recall: f64,
    /// One JSON object a policy
    #[arg(long)]
    pub json: bool,
}
