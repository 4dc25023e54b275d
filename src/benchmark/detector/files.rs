//! Scores that were written down: by `throughline score --output`, or by any other detector.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::{DetectorError, ModelScores, ScoredMessage};
use crate::arc::MessageAt;
use crate::benchmark::manifest::ModelRecord;
use crate::scoring::MessageScore;
use crate::transcript::Role;

/// The longest line, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// The form of lines that is read.
const SCORES_SCHEMA_VERSION: u32 = 1;
/// How far a row of probabilities may be from 1 in all.
const SUM_DELTA_MAX: f32 = 1e-3;
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
    /// Whether the guard refused to judge all of them.
    pub unjudged: bool,
}

/// Its first line.
#[derive(Deserialize)]
struct RunLine {
    #[serde(default = "schema_version_first")]
    schema_version: u32,
    model: ModelRecord,
    #[serde(default)]
    other_models: Vec<IgnoredAny>,
    window_tokens: Option<usize>,
}

/// Of files from before it was written.
fn schema_version_first() -> u32 {
    SCORES_SCHEMA_VERSION
}

/// A user's last line.
#[derive(Deserialize)]
struct EndLine {
    user_id: String,
    notes: Option<EndNotes>,
}

#[derive(Deserialize)]
struct EndNotes {
    #[serde(default)]
    unjudged: usize,
}

/// The file's last line.
#[derive(Deserialize)]
struct SummaryLine {
    users: u64,
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
    let mut reading =
        UserReading { file, run: None, user: ScoredUser::default(), before: None, users: 0, whole: false };
    let mut last = 0;
    each_line(file, &mut |line, value| {
        last = line;
        reading.line(line, value, see)
    })?;
    match reading.run {
        Some(run) if reading.whole => Ok(ModelRecord { window_tokens: run.window_tokens, ..run.model }),
        _ => Err(error(file, last, "the end of a file that is not whole", WHOLE_FILE)),
    }
}

/// What a file of scores is.
const WHOLE_FILE: &str = "a whole file that `throughline score --output FILE` wrote";

/// Of what several models said: which of them is to be judged nobody could tell.
const ONE_MODEL: &str =
    "score with one --model at a time (`throughline benchmark --from A --from B` compares several such files)";

/// A file of scores on its way.
struct UserReading<'a> {
    file: &'a Path,
    run: Option<RunLine>,
    user: ScoredUser,
    /// The user before this one: their ids rise.
    before: Option<String>,
    users: u64,
    /// Its last line was read.
    whole: bool,
}

impl UserReading<'_> {
    fn line(&mut self, line: usize, value: Value, see: &mut dyn FnMut(&ScoredUser)) -> Result<(), DetectorError> {
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        match (kind.as_str(), &self.run) {
            _ if self.whole => Err(self.error(line, "a line after the summary, which is the last")),
            ("run", None) => {
                let run: RunLine = typed(self.file, line, value, WHOLE_FILE)?;
                if run.schema_version > SCORES_SCHEMA_VERSION {
                    return Err(self.error(line, "lines of a later throughline, of a form that this one does not know"));
                }
                if !run.other_models.is_empty() {
                    return Err(error(self.file, line, "scores by several models", ONE_MODEL));
                }
                self.run = Some(run);
                Ok(())
            }
            ("message", Some(_)) => self.message(line, typed(self.file, line, value, WHOLE_FILE)?),
            ("history", Some(_)) => {
                self.end(line, typed(self.file, line, value, WHOLE_FILE)?)?;
                see(&self.user);
                self.before = Some(std::mem::take(&mut self.user).user_id);
                Ok(())
            }
            ("summary", Some(_)) => {
                let summary: SummaryLine = typed(self.file, line, value, WHOLE_FILE)?;
                if summary.users != self.users || !self.user.messages.is_empty() {
                    return Err(self.error(line, "a summary of other users than the file has"));
                }
                self.whole = true;
                Ok(())
            }
            _ => Err(self.error(line, "no line of scores, or one out of its place")),
        }
    }

    fn message(&mut self, line: usize, one: MessageLine) -> Result<(), DetectorError> {
        let at = MessageAt { session: one.session_index, message: one.message_index };
        if let Some(last) = self.user.messages.last()
            && (self.user.user_id != one.user_id || last.scored.at >= at)
        {
            return Err(self.error(line, "a message out of its order, or of another user before this one's end"));
        }
        if !is_sound(&one.score) {
            return Err(self.error(line, "a probability that is not between 0 and 1, or a row that does not come to 1"));
        }
        self.user.user_id = one.user_id;
        let scored = ScoredMessage { at, role: one.role, score: one.score };
        self.user.messages.push(UserMessage { scored, time: one.time, categories: one.categories });
        Ok(())
    }

    fn end(&mut self, line: usize, end: EndLine) -> Result<(), DetectorError> {
        if !self.user.messages.is_empty() && self.user.user_id != end.user_id {
            return Err(self.error(line, "the end of another user than the messages before it"));
        }
        if self.before.as_ref().is_some_and(|before| *before >= end.user_id) {
            return Err(self.error(line, "a user for the second time, or out of the order of ids"));
        }
        self.users += 1;
        let unjudged = end.notes.map_or(0, |notes| notes.unjudged);
        self.user.unjudged = unjudged > 0 && unjudged == self.user.messages.len();
        self.user.user_id = end.user_id;
        Ok(())
    }

    fn error(&self, line: usize, found: &str) -> DetectorError {
        error(self.file, line, found, WHOLE_FILE)
    }
}

/// Whether all are probabilities: NaN would pass for innocence.
fn is_sound(score: &MessageScore) -> bool {
    let fine = |p: &f32| (0.0..=1.0).contains(p);
    let row = |row: &[f32; 4]| row.iter().all(fine) && (row.iter().sum::<f32>() - 1.0).abs() <= SUM_DELTA_MAX;
    let single = [Some(score.imminent), score.harassment_case, score.delusion_case, score.framed];
    [&score.harassment, &score.delusion, &score.stance].into_iter().all(row) && single.iter().flatten().all(fine)
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
