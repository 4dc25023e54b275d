//! Scores that were written down: by `throughline score --output`, or by any other detector.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{DetectorError, ModelScores, ScoredMessage};
use crate::arc::MessageAt;
use crate::benchmark::manifest::ModelRecord;
use crate::scoring::MessageScore;
use crate::transcript::Role;

/// The longest line, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The most lines.
const LINES_MAX: usize = 50_000_000;

/// The scores of a detector of which no more is known.
#[derive(Debug, Clone)]
pub struct ExternalScores {
    pub file: PathBuf,
    /// Harassment and delusion by history.
    pub by_id: HashMap<String, [f64; 2]>,
}

/// `{"user_id": "hale-01", "harassment": 0.2, "delusion": 1.4}`; other fields are not looked at.
#[derive(Deserialize)]
struct ScoreLine {
    user_id: String,
    harassment: f64,
    delusion: f64,
}

/// A message's line of `throughline score --output`; `schemas/score.schema.json` says more.
#[derive(Deserialize)]
struct MessageLine {
    user_id: String,
    session_index: usize,
    message_index: usize,
    role: Role,
    #[serde(default)]
    time: Option<Timestamp>,
    #[serde(default)]
    categories: Vec<String>,
    #[serde(flatten)]
    score: MessageScore,
}

/// A scored message as it was written down.
#[derive(Debug, Clone, PartialEq)]
pub struct UserMessage {
    pub scored: ScoredMessage,
    /// When it was written, or its session began.
    pub time: Option<Timestamp>,
    /// Categories that a guard named.
    pub categories: Vec<String>,
}

/// Everything that was written down of one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoredUser {
    pub user_id: String,
    /// In the order of the history.
    pub messages: Vec<UserMessage>,
}

/// Its first line.
#[derive(Deserialize)]
struct RunLine {
    model: ModelRecord,
    window_tokens: Option<usize>,
}

/// A user's last line.
#[derive(Deserialize)]
struct EndLine {
    user_id: String,
}

/// Reads lines of scores.
///
/// # Errors
/// At the first line that is no score, or the second of one history.
pub fn scores_file(file: &Path) -> Result<ExternalScores, DetectorError> {
    let mut by_id = HashMap::new();
    let form = "{\"user_id\": …, \"harassment\": NUMBER, \"delusion\": NUMBER}";
    each_line(file, &mut |line, value| {
        let one: ScoreLine = typed(file, line, value, form)?;
        if by_id.insert(one.user_id, [one.harassment, one.delusion]).is_some() {
            return Err(error(file, line, "a second line of one history", form));
        }
        Ok(())
    })?;
    Ok(ExternalScores { file: file.to_owned(), by_id })
}

/// Reads what `throughline score --output` wrote: the model, and its scores of every message.
///
/// # Errors
/// At the first line that is not of the form, and where the last one is no summary.
pub fn score_output(file: &Path) -> Result<(ModelRecord, ModelScores), DetectorError> {
    let mut scores = ModelScores::new();
    let record = each_user(file, &mut |user| {
        let messages = user.messages.iter().map(|message| message.scored);
        scores.entry(user.user_id.clone()).or_default().extend(messages);
    })?;
    Ok((record, scores))
}

/// The same a user at a time: memory does not grow with the number of users.
///
/// # Errors
/// As [`score_output`]; what was seen before an error is to be forgotten.
pub fn each_user(file: &Path, see: &mut dyn FnMut(&ScoredUser)) -> Result<ModelRecord, DetectorError> {
    let hint = "a whole file that `throughline score --output FILE` wrote";
    let (mut run, mut whole, mut last) = (None, false, 0);
    let mut user = ScoredUser::default();
    each_line(file, &mut |line, value| {
        last = line;
        match value["type"].as_str() {
            Some("run") => run = Some(typed::<RunLine>(file, line, value, hint)?),
            Some("message") => {
                let one: MessageLine = typed(file, line, value, hint)?;
                if !user.messages.is_empty() && user.user_id != one.user_id {
                    return Err(error(file, line, "a message of another user before this one's end", hint));
                }
                let at = MessageAt { session: one.session_index, message: one.message_index };
                let scored = ScoredMessage { at, role: one.role, score: one.score };
                user.user_id = one.user_id;
                user.messages.push(UserMessage { scored, time: one.time, categories: one.categories });
            }
            Some("history") => {
                let end: EndLine = typed(file, line, value, hint)?;
                user.user_id = end.user_id;
                see(&user);
                user.messages.clear();
            }
            Some("summary") => whole = true,
            _ => return Err(error(file, line, "no line of scores", hint)),
        }
        Ok(())
    })?;
    match run {
        Some(run) if whole => Ok(ModelRecord { window_tokens: run.window_tokens, ..run.model }),
        _ => Err(error(file, last, "the end of a file that is not whole", hint)),
    }
}

fn error(file: &Path, line: usize, found: &str, hint: &'static str) -> DetectorError {
    DetectorError::Line { file: file.to_owned(), line, found: found.to_owned(), hint }
}

fn typed<T: DeserializeOwned>(file: &Path, line: usize, value: Value, hint: &'static str) -> Result<T, DetectorError> {
    serde_json::from_value(value).map_err(|_| error(file, line, "an object of another form", hint))
}

fn each_line(file: &Path, see: &mut dyn FnMut(usize, Value) -> Result<(), DetectorError>) -> Result<(), DetectorError> {
    let open = |cause| DetectorError::Open { file: file.to_owned(), cause };
    let mut reader = BufReader::new(File::open(file).map_err(open)?);
    let mut bytes = Vec::new();
    for line in 1..=LINES_MAX {
        bytes.clear();
        if (&mut reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes).map_err(open)? == 0 {
            return Ok(());
        }
        if bytes.len() as u64 > LINE_BYTES_MAX {
            return Err(error(file, line, "a line of more than 1 MiB", "one object a line"));
        }
        if !bytes.trim_ascii().is_empty() {
            let value = serde_json::from_slice(&bytes);
            see(line, value.map_err(|_| error(file, line, "no JSON", "one object a line"))?)?;
        }
    }
    Err(error(file, LINES_MAX, "more lines than the limit of 50,000,000", "judge fewer histories at a time"))
}
