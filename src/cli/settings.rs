//! Settings resolved: file < environment < flag. The environment is read by the parser of flags.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use throughline::config::from_toml;
use throughline::engine::KernelName;
use throughline::transcript::read::{CsvColumns, Format, Source};
use throughline::verdict::Level;

use super::args::{CsvArgs, ScoreArgs};
use super::limits::read_small;

/// Models that read the same.
const MODELS_MAX: usize = 8;

/// What `score` does.
#[derive(Debug)]
pub struct ScoreSettings {
    pub source: Source,
    /// One at least; each reads by itself.
    pub models: Vec<String>,
    pub output: Option<PathBuf>,
    pub report: Option<PathBuf>,
    pub fail_at: Option<Level>,
    pub redact: bool,
    pub pseudonymous_targets: bool,
    pub explain: bool,
    pub strict: bool,
    pub quiet: bool,
    pub window_tokens: Option<usize>,
    pub guard: Option<String>,
    pub categories: Option<PathBuf>,
    pub policy: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub threads: Option<usize>,
    pub kernel: Option<KernelName>,
}

/// A settings file: every option of `score`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSettings {
    model: OneOrSeveral,
    #[serde(deserialize_with = "from_name")]
    format: Option<Format>,
    user: Option<String>,
    csv: FileCsv,
    output: Option<PathBuf>,
    report: Option<PathBuf>,
    #[serde(deserialize_with = "from_name")]
    fail_at: Option<Level>,
    redact: Option<bool>,
    pseudonymous_targets: Option<bool>,
    explain: Option<bool>,
    strict: Option<bool>,
    quiet: Option<bool>,
    window_tokens: Option<usize>,
    guard: Option<String>,
    categories: Option<PathBuf>,
    policy: Option<PathBuf>,
    threads: Option<usize>,
    #[serde(deserialize_with = "from_name")]
    kernel: Option<KernelName>,
}

/// `model = "a"` or `model = ["a", "b"]`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

impl Default for OneOrSeveral {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl From<OneOrSeveral> for Vec<String> {
    fn from(names: OneOrSeveral) -> Self {
        match names {
            OneOrSeveral::One(name) => vec![name],
            OneOrSeveral::Several(names) => names,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileCsv {
    user: Option<String>,
    session: Option<String>,
    role: Option<String>,
    content: Option<String>,
    timestamp: Option<String>,
    delimiter: Option<String>,
}

impl ScoreSettings {
    /// Every file that is read, as far as it is named: none of them may be written over.
    pub fn inputs(&self) -> Vec<PathBuf> {
        let files = [&self.categories, &self.policy, &self.config].into_iter().flatten();
        self.source.paths.iter().chain(files).cloned().chain(self.models.iter().map(PathBuf::from)).collect()
    }

    /// # Errors
    /// When the file cannot be read, has a key that is not known, or a value is out of its range.
    pub fn resolve(args: ScoreArgs) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => {
                let text = read_small(path)?;
                from_toml(&text).map_err(|error| anyhow!("settings file {}: {error}", path.display()))?
            }
            None => FileSettings::default(),
        };
        let (report, fail_at) = (args.report.or(file.report), args.fail_at.or(file.fail_at));
        ensure!(report.as_deref() != Some(Path::new("-")), "the page is a file; hint: --report FILE.html");
        ensure!(
            fail_at != Some(Level::None),
            "every history is at level none or above; hint: --fail-at watch, review, senior or urgent, or leave it out"
        );
        Ok(Self {
            source: Source {
                format: args.format.or(file.format),
                user: args.user.or(file.user),
                csv: columns(args.csv, file.csv)?,
                ..Source::new(args.paths)
            },
            models: models(args.model, file.model.into())?,
            output: args.output.or(file.output),
            report,
            fail_at,
            redact: args.redact.or(file.redact).unwrap_or(false),
            pseudonymous_targets: args.pseudonymous_targets.or(file.pseudonymous_targets).unwrap_or(false),
            explain: args.explain.or(file.explain).unwrap_or(false),
            strict: args.strict.or(file.strict).unwrap_or(false),
            quiet: args.quiet.or(file.quiet).unwrap_or(false),
            window_tokens: args.reading.window_tokens.or(file.window_tokens),
            guard: args.reading.guard.or(file.guard),
            categories: args.reading.categories.or(file.categories),
            policy: args.policy.or(file.policy),
            config: args.config,
            threads: args.compute.threads.or(file.threads),
            kernel: args.compute.kernel.or(file.kernel),
        })
    }
}

fn models(named: Vec<String>, file: Vec<String>) -> anyhow::Result<Vec<String>> {
    let names = if named.is_empty() { file } else { named };
    ensure!(
        names.len() <= MODELS_MAX,
        "{} models, the limit is {MODELS_MAX}; hint: each is held in memory",
        names.len()
    );
    let twice = (1..names.len()).find(|&at| names[..at].contains(&names[at]));
    if let Some(at) = twice {
        bail!("model {} is named twice; hint: it would say the same", names[at]);
    }
    Ok(if names.is_empty() { vec!["embedded".into()] } else { names })
}

fn columns(args: CsvArgs, file: FileCsv) -> anyhow::Result<CsvColumns> {
    let delimiter = match args.csv_delimiter.or(file.delimiter).as_deref() {
        None => None,
        Some("tab" | "\t" | "\\t") => Some(b'\t'),
        Some(text) => match text.as_bytes() {
            [byte] if byte.is_ascii() => Some(*byte),
            _ => bail!("the CSV delimiter has {} bytes, the limit is 1; hint: `,`, `;` or `tab`", text.len()),
        },
    };
    Ok(CsvColumns {
        user: args.csv_user.or(file.user),
        session: args.csv_session.or(file.session),
        role: args.csv_role.or(file.role),
        content: args.csv_content.or(file.content),
        timestamp: args.csv_timestamp.or(file.timestamp),
        delimiter,
    })
}

/// A value with a name of its own, as on the command line.
fn from_name<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let name = String::deserialize(deserializer)?;
    name.parse().map(Some).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(line: &[&str]) -> ScoreArgs {
        let line = ["throughline", "score", "a.jsonl"].iter().chain(line);
        match super::super::args::Cli::try_parse_from(line).unwrap().command {
            super::super::args::Command::Score(args) => *args,
            _ => unreachable!(),
        }
    }

    fn config(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_flag_beats_the_file() {
        let file = config("model = 'a'\nredact = true\nfail_at = 'senior'\nformat = 'csv'\n[csv]\ndelimiter = 'tab'\n");
        let path = file.path().to_str().unwrap();
        let settings = ScoreSettings::resolve(args(&["--config", path, "--redact=false", "--model", "b"])).unwrap();
        assert_eq!((&settings.models[..], settings.redact), (&["b".to_owned()][..], false));
        assert_eq!(settings.fail_at, Some(Level::Senior));
        assert_eq!(settings.source.format, Some(Format::Csv));
        assert_eq!(settings.source.csv.delimiter, Some(b'\t'));
        assert!(ScoreSettings::resolve(args(&["--config", path])).unwrap().redact);
    }

    #[test]
    fn models_are_one_or_several() {
        let models = |text: &str, line: &[&str]| {
            let file = config(text);
            let line = [&["--config", file.path().to_str().unwrap()], line].concat();
            ScoreSettings::resolve(args(&line)).unwrap().models
        };
        assert_eq!(models("", &[]), ["embedded"]);
        assert_eq!(models("model = 'a'", &[]), ["a"]);
        assert_eq!(models("model = ['a', 'b']", &[]), ["a", "b"]);
        assert_eq!(models("model = ['a', 'b']", &["--model", "c", "--model", "d"]), ["c", "d"]);
    }

    #[test]
    fn what_a_file_should_not_say_is_an_error() {
        for (text, says) in [
            ("redacted = true", "unknown field"),
            ("model = ['a', 'b', 'a']", "named twice"),
            ("model = ['1', '2', '3', '4', '5', '6', '7', '8', '9']", "limit is 8"),
            ("fail_at = 'high'", "unknown level"),
            ("format = 'word'", "no transcript format"),
            ("[csv]\ndelimiter = ';;'", "limit is 1"),
            ("[csv]\ncolumn = 'x'", "unknown field"),
        ] {
            let file = config(text);
            let error = ScoreSettings::resolve(args(&["--config", file.path().to_str().unwrap()])).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{text}: {error:#}");
        }
    }
}
