//! The command line: [`args`] as typed → [`settings`] resolved (file < environment < flag) → one
//! file per command.
//!
//! Data goes to standard output; logs, problems and progress go to standard error. Exit codes: 0
//! clean, 1 something at or above `--fail-at`, 2 error.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command, CompletionsArgs};

mod args;
mod benchmark;
#[cfg(feature = "server")]
mod doctor;
#[cfg(feature = "server")]
mod folder;
mod limits;
#[cfg(feature = "server")]
mod log;
#[cfg(feature = "server")]
mod memory;
mod model;
mod output;
mod policy;
mod progress;
mod score;
#[cfg(feature = "server")]
mod serve;
mod settings;
#[cfg(feature = "server")]
mod store;

/// Nothing found at or above the level asked for, or none was asked for.
const EXIT_CLEAN: u8 = 0;
/// At least one history at or above `--fail-at`.
const EXIT_FOUND: u8 = 1;
/// Something could not be done.
const EXIT_ERROR: u8 = 2;

pub fn main() -> ExitCode {
    forget_empty_variables();
    let result = match Cli::parse().command {
        Command::Score(args) => score::run(*args),
        Command::Benchmark(args) => benchmark::run(*args),
        Command::Model(args) => model::run(args),
        Command::Policy(args) => policy::run(args),
        #[cfg(feature = "server")]
        Command::Serve(args) => serve::run(*args),
        #[cfg(feature = "server")]
        Command::Doctor(args) => doctor::run(&args.serve),
        #[cfg(feature = "server")]
        Command::Token(args) => serve::token(args),
        #[cfg(feature = "server")]
        Command::Store(args) => store::run(args),
        Command::Completions(args) => completions(&args),
    };
    ExitCode::from(result.unwrap_or_else(|error| {
        if !is_broken_pipe(&error) {
            // Paths and ids of others stand in errors: they must not drive the terminal.
            let text = throughline::report::safe::lines(&format!("{error:#}"));
            // Where standard error is closed there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {text}");
        }
        EXIT_ERROR
    }))
}

/// An empty variable of ours counts as unset, whichever option it is of.
fn forget_empty_variables() {
    for (name, value) in std::env::vars_os() {
        if value.is_empty() && name.as_encoded_bytes().starts_with(b"THROUGHLINE_") {
            // SAFETY: the first thing that `main` does; no other thread exists yet.
            unsafe { std::env::remove_var(&name) };
        }
    }
}

fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "throughline", &mut script);
    io::stdout().write_all(&script)?;
    Ok(EXIT_CLEAN)
}

/// Whoever read our output has closed it: no error to report.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}
