//! Toward whom: which words of a history's user name which person, as `datasets/README.md` has it.
//!
//! ```text
//! === hale-07
//! p1 target | Dana, ex-girlfriend
//! p2 | Kev, best friend
//! 1.3 @p1 p1="my ex" p2="Kev"
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::open::text;
use super::{DataError, DataSet, Example};
use crate::arc::MessageAt;
use crate::transcript::{History, Role};

/// Words that name a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoldMention {
    pub at: MessageAt,
    /// Bytes of the message.
    pub start: usize,
    pub end: usize,
    /// Index into [`Toward::targets`].
    pub person: usize,
}

/// One history's people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toward {
    /// Of each person, whether the user's attention is on them anywhere.
    pub targets: Vec<bool>,
    /// In the order of the history, inside a message as they were written down.
    pub mentions: Vec<GoldMention>,
    /// Messages that are about a target, and which.
    pub about: Vec<(MessageAt, usize)>,
}

/// The people of the histories of a set, one entry an example: `None` where nobody wrote them down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenedToward {
    pub of: Vec<Option<Toward>>,
    pub files: Vec<PathBuf>,
}

/// Reads the files of a folder whose authors have histories in the set, and no others.
///
/// # Errors
/// At the first line that is not of the format, or names what does not stand in its message.
pub fn open_toward(folder: &Path, set: &DataSet) -> Result<OpenedToward, DataError> {
    let mut opened = OpenedToward { of: vec![None; set.examples.len()], files: Vec::new() };
    let places: HashMap<&str, usize> =
        set.examples.iter().enumerate().map(|(index, example)| (example.history.user_id.as_str(), index)).collect();
    let mut authors: Vec<&str> = set.examples.iter().map(author).collect();
    authors.dedup();
    for author in authors {
        let file = folder.join(format!("{author}.txt"));
        if !file.is_file() {
            continue;
        }
        let mut parser = Parser { file: &file, line: 0, set, places: &places, open: None, opened: &mut opened };
        for line in text(&file)?.lines() {
            parser.line += 1;
            parser.read(line)?;
        }
        parser.close();
        opened.files.push(file);
    }
    if opened.files.is_empty() {
        let hint = "a folder with AUTHOR.txt for the authors of the histories, such as datasets/targets";
        return Err(DataError::file(folder, "no file of an author of these histories", hint));
    }
    Ok(opened)
}

/// `hale` of `hale-07`.
fn author(example: &Example) -> &str {
    let id = example.history.user_id.as_str();
    id.rsplit_once('-').map_or(id, |(author, _)| author)
}

struct Parser<'a> {
    file: &'a Path,
    line: u64,
    set: &'a DataSet,
    places: &'a HashMap<&'a str, usize>,
    open: Option<Draft>,
    opened: &'a mut OpenedToward,
}

/// A history on its way.
struct Draft {
    example: usize,
    /// `p1` → 0.
    people: HashMap<String, usize>,
    toward: Toward,
}

impl Parser<'_> {
    fn error(&self, found: &str, hint: &str) -> DataError {
        DataError::line(self.file, self.line, found, hint)
    }

    fn read(&mut self, line: &str) -> Result<(), DataError> {
        if line.trim().is_empty() || line.starts_with('#') {
            return Ok(());
        }
        if let Some(id) = line.strip_prefix("=== ") {
            self.close();
            let known = self.places.get(id.trim()).copied();
            let example = known.ok_or_else(|| self.error("no such history", "the histories of the author's file"))?;
            self.open = Some(Draft { example, people: HashMap::new(), toward: Toward::default() });
            return Ok(());
        }
        let Some(mut draft) = self.open.take() else {
            return Err(self.error("text before the first history", "begin one with `=== ID`"));
        };
        let done = match line.split_once(" | ") {
            Some((head, _)) if line.starts_with('p') => self.person(&mut draft, head),
            _ => self.message(&mut draft, line),
        };
        self.open = Some(draft);
        done
    }

    fn close(&mut self) {
        if let Some(draft) = self.open.take() {
            self.opened.of[draft.example] = Some(draft.toward);
        }
    }

    /// `p1 target`
    fn person(&self, draft: &mut Draft, head: &str) -> Result<(), DataError> {
        let (number, target) = head.strip_suffix(" target").map_or((head, false), |number| (number, true));
        let person = draft.toward.targets.len();
        if !is_number(number) || draft.people.insert(number.to_owned(), person).is_some() {
            return Err(self.error("no person, or one that stands twice", "p1 target | who, in a few words"));
        }
        draft.toward.targets.push(target);
        Ok(())
    }

    /// `1.3 @p1 p1="my ex" p2="Kev"`
    fn message(&self, draft: &mut Draft, line: &str) -> Result<(), DataError> {
        let hint = "SESSION.MESSAGE, then p1=\"words\" and @p1, as datasets/README.md has them";
        let (place, mut rest) = line.split_once(' ').ok_or_else(|| self.error("a place and nothing else", hint))?;
        let at = place.split_once('.').and_then(|(s, m)| {
            Some(MessageAt {
                session: s.parse::<usize>().ok()?.checked_sub(1)?,
                message: m.parse::<usize>().ok()?.checked_sub(1)?,
            })
        });
        let history = &self.set.examples[draft.example].history;
        let message = at.and_then(|at| Some((at, said(history, at)?)));
        let (at, text) = message.ok_or_else(|| self.error("no message of the user stands there", hint))?;
        let mut taken: Vec<(usize, usize)> = Vec::new();
        while !rest.is_empty() {
            let (number, after) = match rest.strip_prefix('@') {
                Some(about) => about.split_once(' ').unwrap_or((about, "")),
                None => rest.split_once("=\"").ok_or_else(|| self.error("not of the format", hint))?,
            };
            let person =
                draft.people.get(number).copied().ok_or_else(|| self.error("a person who is not listed", hint))?;
            if rest.starts_with('@') {
                draft.toward.about.push((at, person));
                rest = after;
                continue;
            }
            let (words, after) = after.split_once('"').ok_or_else(|| self.error("words without an end", hint))?;
            let words = words.replace("\\n", "\n");
            let place = place_of(text, &words, &taken);
            let (start, end) =
                place.ok_or_else(|| self.error("words that do not stand in the message, or not so often", hint))?;
            taken.push((start, end));
            draft.toward.mentions.push(GoldMention { at, start, end, person });
            rest = after.trim_start();
        }
        Ok(())
    }
}

fn said(history: &History, at: MessageAt) -> Option<&str> {
    let message = history.sessions.get(at.session)?.messages.get(at.message)?;
    (message.role == Role::User).then_some(message.content.as_str())
}

fn is_number(number: &str) -> bool {
    number.strip_prefix('p').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Where words stand, as whole words where they do: apart from all that was found, after it if they can; else inside what was.
fn place_of(text: &str, words: &str, taken: &[(usize, usize)]) -> Option<(usize, usize)> {
    let from = taken.iter().map(|(start, _)| *start).max().unwrap_or(0);
    let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let places = text.match_indices(words).map(|(start, _)| (start, start + words.len()));
    let rank = |&(start, end): &(usize, usize)| {
        let part = letter(text[..start].chars().next_back()) || letter(text[end..].chars().next());
        let inside = taken.iter().any(|(from, to)| start < *to && *from < end);
        (part, inside, start < from, start)
    };
    places.filter(|place| !taken.contains(place)).min_by_key(rank)
}
