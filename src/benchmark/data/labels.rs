//! Label maps: small files that say what the fields of a table mean, and the ones of public sets.
//!
//! ```toml
//! name = "hatecheck"
//! about = "…"
//! kind = "labels.functionality"       # figures are also given for each of these
//!
//! [[judge]]
//! name = "hateful"
//! subject = "harassment"              # what of a detector is compared; see `Subject`
//! of = "record"                       # where the field is: the record, or each message
//! fields = ["labels.label_gold"]
//! positive = ["hateful"]
//! ```
//!
//! A field is a path of names with dots; `name[]` means each element, whose mean is taken. Of several
//! fields the greatest counts. A judge says with exactly one of `positive`, `at_least`, `at_most` or
//! `weights` what the value means; a record without the field, or with numbers too large to be added, has no label of that judge.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{DataError, DataSet, Example, Label, Split, Subject, Target, Truth, limits};
use crate::arc::{ArcKind, MessageAt};
use crate::transcript::read::{TableRow, table};
use crate::transcript::{History, Message, Role, Session};

/// The maps of public sets, by the name of the set's file.
const KNOWN: [(&str, &str); 7] = [
    ("convabuse", include_str!("maps/convabuse.toml")),
    ("hatecheck", include_str!("maps/hatecheck.toml")),
    ("openai_moderation", include_str!("maps/openai_moderation.toml")),
    ("psychosis_bench", include_str!("maps/psychosis_bench.toml")),
    ("spiral_bench", include_str!("maps/spiral_bench.toml")),
    ("toxichat", include_str!("maps/toxichat.toml")),
    ("xstest", include_str!("maps/xstest.toml")),
];

/// What the fields of a table mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelMap {
    name: String,
    about: String,
    /// The example's id.
    #[serde(default = "id_field")]
    id: String,
    /// A list of messages with `role` and `content`.
    #[serde(default = "messages_field")]
    messages: String,
    /// Instead of a list, the text of one user message.
    content: Option<String>,
    /// What is drawn together; the id where it is not given.
    cluster: Option<String>,
    kind: Option<String>,
    /// The set's own split, held against `--split`.
    split: Option<String>,
    /// The arc whose first `review` is told for each case.
    review: Option<ArcKind>,
    #[serde(default)]
    judge: Vec<Judge>,
}

fn id_field() -> String {
    "id".into()
}

fn messages_field() -> String {
    "messages".into()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Judge {
    name: String,
    subject: Subject,
    of: Of,
    #[serde(default)]
    fields: Vec<String>,
    /// Values that are positive; any other is negative, or only `negative` where that is given.
    #[serde(default)]
    positive: Vec<String>,
    #[serde(default)]
    negative: Vec<String>,
    at_least: Option<f64>,
    at_most: Option<f64>,
    /// A number: the weighted sum of these fields, whose rank is compared.
    #[serde(default)]
    weights: BTreeMap<String, f64>,
    /// A message's score is P(level ≥ this).
    #[serde(default = "level_min")]
    level_min: u8,
}

fn level_min() -> u8 {
    2
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    /// Each message's own label; or the record's, about the last message of the subject's role.
    Message,
    Record,
}

impl LabelMap {
    /// Names of the maps that are built in.
    pub fn known() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(name, _)| *name)
    }

    /// The built-in map of a name.
    ///
    /// # Errors
    /// Never for a name of [`LabelMap::known`].
    pub fn named(name: &str) -> Option<Result<Self, DataError>> {
        let (name, text) = KNOWN.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(Path::new(name), text))
    }

    /// A map from its text.
    ///
    /// # Errors
    /// When it is no map, or a judge says nothing or two things.
    pub fn parse(file: &Path, text: &str) -> Result<Self, DataError> {
        let hint = "see src/benchmark/data/labels.rs and the maps beside it";
        let map: Self = crate::config::from_toml(text).map_err(|error| DataError::file(file, error, hint))?;
        for judge in &map.judge {
            let says = [
                !judge.positive.is_empty(),
                judge.at_least.is_some(),
                judge.at_most.is_some(),
                !judge.weights.is_empty(),
            ];
            let one = says.iter().filter(|says| **says).count() == 1;
            // Numbers that compare with none, or outweigh all.
            let bounds = [judge.at_least, judge.at_most].into_iter().flatten();
            let finite = bounds.chain(judge.weights.values().copied()).all(f64::is_finite);
            let placed = judge.fields.is_empty() != judge.weights.is_empty();
            if !one
                || !placed
                || !finite
                || (judge.subject.arc().is_some() && judge.of == Of::Message)
                || judge.level_min > 3
            {
                let found = "a judge that does not say what is positive in exactly one way, in fields of one place, by finite numbers";
                return Err(DataError::file(file, found, hint));
            }
        }
        if map.judge.is_empty() && map.review.is_none() {
            return Err(DataError::file(file, "a map without a judge", hint));
        }
        Ok(map)
    }

    /// The examples of a table.
    ///
    /// # Errors
    /// At the first record that has no id or messages, or an id that stood before.
    pub fn read(&self, path: &Path, split: Split) -> Result<DataSet, DataError> {
        let mut reading = Reading { map: self, path, seen: HashMap::new() };
        let (mut examples, mut unlabelled, mut elsewhere) = (Vec::new(), 0, 0);
        for row in table(path, &limits())? {
            if self.is_elsewhere(&row.value, split) {
                elsewhere += 1;
                continue;
            }
            let example = reading.example(&row)?;
            if example.labels.is_empty() && self.review.is_none() {
                unlabelled += 1;
                continue;
            }
            examples.push(example);
        }
        let left_out = [("records of another split", elsewhere), ("records without a label", unlabelled)];
        Ok(DataSet {
            name: self.name.clone(),
            about: self.about.clone(),
            targets: self.judge.iter().map(Judge::target).collect(),
            examples,
            review: self.review,
            left_out: left_out.into_iter().filter(|(_, n)| *n > 0).map(|(why, n)| (why.to_owned(), n)).collect(),
        })
    }

    fn is_elsewhere(&self, value: &Value, split: Split) -> bool {
        let Some(field) = &self.split else { return false };
        split != Split::All && texts(value, field).first().is_none_or(|found| found != split.as_str())
    }
}

impl Judge {
    fn target(&self) -> Target {
        Target { name: self.name.clone(), subject: self.subject, level_min: self.level_min }
    }

    fn truth(&self, value: &Value) -> Option<Truth> {
        if !self.weights.is_empty() {
            let parts = self.weights.iter().map(|(field, weight)| Some(weight * mean(value, field)?));
            return parts.sum::<Option<f64>>().filter(|sum| sum.is_finite()).map(Truth::Number);
        }
        if !self.positive.is_empty() {
            let found: Vec<String> = self.fields.iter().flat_map(|field| texts(value, field)).collect();
            let any = |of: &[String]| found.iter().any(|text| of.contains(text));
            return match (any(&self.positive), any(&self.negative) || self.negative.is_empty()) {
                _ if found.is_empty() => None,
                (true, _) => Some(Truth::Is(true)),
                (false, true) => Some(Truth::Is(false)),
                (false, false) => None,
            };
        }
        let greatest = self.fields.iter().filter_map(|field| mean(value, field)).reduce(f64::max)?;
        let positive =
            self.at_least.is_some_and(|least| greatest >= least) || self.at_most.is_some_and(|most| greatest <= most);
        Some(Truth::Is(positive))
    }

    fn role(&self) -> Role {
        if self.subject == Subject::Stance { Role::Assistant } else { Role::User }
    }
}

struct Reading<'a> {
    map: &'a LabelMap,
    path: &'a Path,
    /// Ids, and the line they stood in.
    seen: HashMap<String, u64>,
}

impl Reading<'_> {
    fn example(&mut self, row: &TableRow) -> Result<Example, DataError> {
        let error = |found: String, hint| DataError::line(self.path, row.line, found, hint);
        let first = |field: &str| texts(&row.value, field).into_iter().next();
        let id = first(&self.map.id)
            .filter(|id| !id.is_empty())
            .ok_or_else(|| error(format!("no `{}`", self.map.id), "the map's `id` names the field of an id"))?;
        if let Some(before) = self.seen.insert(id.clone(), row.line) {
            return Err(error(format!("the id of line {before}"), "ids are unique in a file"));
        }
        let messages = self.messages(&row.value).map_err(|found| error(found, "messages with role and content"))?;
        let labels = self.labels(&row.value, &messages);
        let session = Session {
            session_id: id.clone(),
            started_at: None,
            messages: messages.into_iter().map(|(message, _)| message).collect(),
        };
        Ok(Example {
            kind: self.map.kind.as_deref().and_then(first).unwrap_or_else(|| self.map.name.clone()),
            cluster: self.map.cluster.as_deref().and_then(first).unwrap_or_else(|| id.clone()),
            history: History { user_id: id, sessions: vec![session] },
            twin_of: None,
            arcs: None,
            labels,
        })
    }

    /// The messages, each with the object its own labels are in.
    fn messages<'v>(&self, value: &'v Value) -> Result<Vec<(Message, &'v Value)>, String> {
        let message = |role, content: &str| Message { role, content: content.to_owned(), timestamp: None };
        if let Some(field) = &self.map.content {
            let text = texts(value, field).into_iter().next().ok_or_else(|| format!("no `{field}`"))?;
            return Ok(vec![(message(Role::User, &text), value)]);
        }
        let mut found = Vec::new();
        find(value, &self.map.messages, &mut found);
        let list = found.first().and_then(|list| list.as_array()).filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| format!("no list `{}`", self.map.messages))?;
        list.iter()
            .enumerate()
            .map(|(index, one)| {
                let role =
                    serde_json::from_value(one["role"].clone()).map_err(|_| format!("message {index}: no role"))?;
                let content = one["content"].as_str().ok_or_else(|| format!("message {index}: no content"))?;
                Ok((message(role, content), one))
            })
            .collect()
    }

    fn labels(&self, record: &Value, messages: &[(Message, &Value)]) -> Vec<Label> {
        let mut labels = Vec::new();
        for (target, judge) in self.map.judge.iter().enumerate() {
            let at = |message| Some(MessageAt { session: 0, message });
            let of_role = |(_, (message, _)): &(usize, &(Message, &Value))| message.role == judge.role();
            let mut spoken = messages.iter().enumerate().filter(of_role);
            if judge.subject.arc().is_some() {
                labels.extend(judge.truth(record).map(|truth| Label { target, at: None, truth }));
            } else if judge.of == Of::Record {
                let last = spoken.next_back().map(|(index, _)| index);
                let truth = last.and_then(|_| judge.truth(record));
                labels.extend(truth.map(|truth| Label { target, at: last.and_then(at), truth }));
            } else {
                let one = |(index, (_, own)): (usize, &(Message, &Value))| {
                    judge.truth(own).map(|truth| Label { target, at: at(index), truth })
                };
                labels.extend(spoken.filter_map(one));
            }
        }
        labels
    }
}

/// Values at a path; the name of a field may itself have dots.
fn find<'v>(value: &'v Value, path: &str, out: &mut Vec<&'v Value>) {
    if let Some(found) = value.get(path) {
        out.push(found);
        return;
    }
    for (dot, _) in path.match_indices('.') {
        let (head, rest) = (&path[..dot], &path[dot + 1..]);
        let (name, each) = head.strip_suffix("[]").map_or((head, false), |name| (name, true));
        match value.get(name) {
            Some(Value::Array(list)) if each => return list.iter().for_each(|one| find(one, rest, out)),
            Some(inner) if !each => return find(inner, rest, out),
            _ => {}
        }
    }
}

/// The values at a path that can be written as text.
fn texts(value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    find(value, path, &mut found);
    let text = |value: &&Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        _ => None,
    };
    found.iter().filter_map(text).collect()
}

/// The mean of the numbers at a path; `None` where there is none.
fn mean(value: &Value, path: &str) -> Option<f64> {
    let mut found = Vec::new();
    find(value, path, &mut found);
    let number = |value: &&Value| match value {
        Value::Bool(bool) => Some(f64::from(u8::from(*bool))),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        other => other.as_f64(),
    };
    let numbers: Vec<f64> = found.iter().filter_map(number).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}
