//! Takes sessions from the readers, checks them against the limits, names what has no name, and
//! keeps the books: every record is read or left out, and every change is a problem.

use std::cell::Cell;
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::rc::Rc;

use jiff::Timestamp;
use serde::Serialize;

use super::corpus::{Corpus, Index, Part, Slot};
use super::names;
use super::problem::{Fault, Outcome, Place, Problem, Problems, Summary};
use super::{Limits, Progress, ReadError, Source};
use crate::transcript::{Message, Role};

/// A session as a reader found it.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub user_id: Option<String>,
    pub session_id: Option<String>,
    pub started_at: Option<Timestamp>,
    pub messages: Vec<Message>,
    pub notes: Notes,
}

/// What a reader saw on the way that does not stop it.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Times that could not be read.
    pub unread_times: u64,
    /// Halves of characters that were replaced.
    pub half_characters: u64,
    /// Messages off the active branch.
    pub other_branches: u64,
    /// Further notices, each with its own words.
    pub notices: Vec<Fault>,
}

/// How the sessions of a format go into the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Manner {
    /// A record that names no user is a person of its own: collections of many people.
    pub each_its_own_user: bool,
    /// Sessions come in rows that need not be adjacent.
    pub rows: bool,
}

/// Everything that a read collects.
pub(super) struct Collector<'a> {
    pub source: &'a Source,
    pub progress: &'a mut dyn FnMut(Progress<'_>),
    pub summary: Summary,
    pub problems: Problems,
    pub index: Index,
    /// Persons that more than one file would be named after by itself.
    pub ambiguous: HashSet<String>,
    pub files_done: u64,
    pub files_total: u64,
    pub bytes_total: Option<u64>,
    pub bytes_read: Rc<Cell<u64>>,
}

impl<'a> Collector<'a> {
    pub fn new(source: &'a Source, progress: &'a mut dyn FnMut(Progress<'_>)) -> Self {
        Collector {
            source,
            progress,
            summary: Summary::default(),
            problems: Problems::new(source.limits.problems_max),
            index: Index::new(source.limits.spool_memory_bytes_max),
            ambiguous: HashSet::new(),
            files_done: 0,
            files_total: 1,
            bytes_total: None,
            bytes_read: Rc::default(),
        }
    }

    /// Counts a file that is not read.
    pub fn skip_file(&mut self, problem: Problem) {
        self.summary.skipped_files += 1;
        self.problems.push(problem);
    }

    /// Counts files not read whose problems were not kept.
    pub fn skip_more(&mut self, files: u64) {
        self.summary.skipped_files += files;
        self.problems.count_more(files);
    }

    pub fn finish(mut self) -> Corpus {
        self.summary.users = self.index.users() as u64;
        self.summary.problems = self.problems.count();
        Corpus::new(self.index, self.problems.into_kept(), self.summary)
    }
}

/// Sums over one file, told at its end.
#[derive(Debug, Default)]
struct Tally {
    empty: u64,
    kept_apart: u64,
    unread_times: u64,
    half_characters: u64,
    other_branches: u64,
    copied: u64,
    nameless: u64,
}

/// One file being read: what the readers write to.
pub(super) struct FileSink<'c, 'a> {
    all: &'c mut Collector<'a>,
    name: String,
    number: u64,
    records_before: u64,
    stem: String,
    user: String,
    pub manner: Manner,
    tally: Tally,
}

impl<'c, 'a> FileSink<'c, 'a> {
    pub fn new(all: &'c mut Collector<'a>, name: String, path: Option<&Path>) -> Self {
        let (stem, user) = names::of_file(path, &name, &all.ambiguous);
        all.summary.files += 1;
        let number = all.summary.files;
        let records_before = all.summary.records;
        let (manner, tally) = (Manner::default(), Tally::default());
        FileSink { all, name, number, records_before, stem, user, manner, tally }
    }

    pub fn limits(&self) -> &'a Limits {
        &self.all.source.limits
    }

    pub fn source(&self) -> &'a Source {
        self.all.source
    }

    /// The name of the file without folder and known extensions.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Tells how far the read has come.
    pub fn tell_progress(&mut self) {
        let all = &mut *self.all;
        (all.progress)(Progress {
            file: &self.name,
            files_done: all.files_done,
            files_total: all.files_total,
            bytes_read: all.bytes_read.get(),
            bytes_total: all.bytes_total,
            records: all.summary.records,
        });
    }

    /// Books `records` records as not read.
    pub fn left_out(&mut self, place: Place, mut fault: Fault, records: u64) {
        if records > 1 {
            fault.found.push_str(&format!(", {records} records in all"));
        }
        self.count_records(records);
        self.all.summary.left_out += records;
        self.all.problems.push(fault.at(&self.name, place, Outcome::LeftOut));
    }

    /// Books something that was read with a change.
    pub fn notice(&mut self, place: Place, fault: Fault) {
        self.all.problems.push(fault.at(&self.name, place, Outcome::Notice));
    }

    /// The file turned out not to be readable at all.
    pub fn skip_rest(&mut self, fault: Fault) {
        self.all.summary.files -= 1;
        self.all.skip_file(fault.at(&self.name, Place::File, Outcome::FileSkipped));
    }

    /// The stream broke off: the rest of the file counts as one record left out.
    pub fn broke_off(&mut self, place: Place, error: &io::Error) {
        let fault = Fault::new(
            format!("an unreadable rest of the file ({error})"),
            "a whole file",
            "the records before it were read; get the file again, or split it where it is too large",
        );
        self.left_out(place, fault, 1);
    }

    fn count_records(&mut self, records: u64) {
        let before = self.all.summary.records;
        self.all.summary.records += records;
        if before / 1000 != self.all.summary.records / 1000 {
            self.tell_progress();
        }
    }

    /// Takes one session, made of `records` records; left out whole when over a limit.
    ///
    /// # Errors
    /// Only when the temporary file fails.
    pub fn session(&mut self, place: Place, mut parsed: Parsed, records: u64) -> Result<(), ReadError> {
        let before = parsed.messages.len();
        parsed.messages.retain(|m| !m.content.trim().is_empty());
        let empty = (before - parsed.messages.len()) as u64;
        let apart = parsed.messages.iter().filter(|m| m.role == Role::System).count() as u64;
        let (user_id, session_id, nameless) = self.names(&parsed);

        if let Err(fault) = self.check(&parsed, &user_id, &session_id) {
            self.left_out(place, fault, records);
            return Ok(());
        }
        let rows_of = self.manner.rows.then_some(self.number);
        let mut json = Written::json(&session_id, &parsed);
        let digest = (!self.manner.rows).then(|| self.all.index.digest(&json));
        if digest.is_some_and(|digest| self.all.index.has_copy(&user_id, &digest)) {
            self.count_records(records);
            self.all.summary.records_read += records;
            self.tally.copied += 1;
            return Ok(());
        }
        let slot = self.all.index.slot(&user_id, &session_id, rows_of);
        if let Slot::New { session_id, repeated: Some(_) } = &slot {
            json = Written::json(session_id, &parsed);
        }
        if let Err(fault) = self.check_room(&user_id, &slot, (json.len() as u64, parsed.messages.len())) {
            self.left_out(place, fault, records);
            return Ok(());
        }
        let start = parsed.started_at.or_else(|| parsed.messages.iter().find_map(|m| m.timestamp));
        let (file, rows, messages) = (self.number, self.manner.rows, parsed.messages.len());
        let part = Part { json: &json, digest, file, rows, messages, start };
        self.all.index.add(&user_id, &session_id, &slot, part)?;

        self.count_records(records);
        let notes = std::mem::take(&mut parsed.notes);
        let sum = &mut self.all.summary;
        sum.records_read += records;
        sum.messages += parsed.messages.len() as u64;
        sum.sessions += u64::from(matches!(slot, Slot::New { .. }));
        self.tally.empty += empty;
        self.tally.kept_apart += apart;
        self.tally.unread_times += notes.unread_times;
        self.tally.half_characters += notes.half_characters;
        self.tally.other_branches += notes.other_branches;
        self.tally.nameless += u64::from(nameless);
        if matches!(slot, Slot::New { repeated: Some(_), .. }) {
            self.repeated(place);
        }
        for fault in notes.notices {
            self.notice(place, fault);
        }
        Ok(())
    }

    fn repeated(&mut self, place: Place) {
        self.all.summary.repeated_sessions += 1;
        let fault = Fault::new(
            "a session id that this user has already",
            "each id once",
            "both are kept, the later one under `id#2` and so on; remove one if they are versions of one session",
        );
        self.notice(place, fault);
    }

    /// User id and session id, from the data where it has them; true where no user was named.
    fn names(&self, parsed: &Parsed) -> (String, String, bool) {
        let number = self.all.summary.records + 1 - self.records_before;
        let numbered = || format!("{}/{number}", self.stem);
        let session_id = parsed.session_id.clone().unwrap_or_else(numbered);
        match (&parsed.user_id, &self.all.source.user) {
            (Some(id), _) | (None, Some(id)) => (id.clone(), session_id, false),
            (None, None) if self.manner.each_its_own_user => {
                // Two strangers are never one person, even where their sessions have one id.
                let user_id = match self.all.index.size_of(&session_id) {
                    None => session_id.clone(),
                    Some(_) => format!("{session_id}#{}", self.all.summary.records + 1),
                };
                (user_id, session_id, true)
            }
            (None, None) => (self.user.clone(), session_id, true),
        }
    }

    fn check(&self, parsed: &Parsed, user_id: &str, session_id: &str) -> Result<(), Fault> {
        let limits = self.limits();
        if parsed.messages.is_empty() {
            return Err(Fault::new("a session without any text", "one message or more", ""));
        }
        if parsed.messages.len() > limits.messages_per_session_max {
            let (value, limit) = (parsed.messages.len() as u64, limits.messages_per_session_max as u64);
            return Err(Fault::limit("messages in one session", value, limit, "messages_per_session_max"));
        }
        for (what, id) in [("a user id", user_id), ("a session id", session_id)] {
            if id.len() > limits.id_bytes_max {
                let what = format!("bytes in {what}");
                return Err(Fault::limit(&what, id.len() as u64, limits.id_bytes_max as u64, "id_bytes_max"));
            }
        }
        let longest = parsed.messages.iter().enumerate().max_by_key(|(_, m)| m.content.len());
        match longest {
            Some((at, m)) if m.content.len() > limits.message_bytes_max => {
                let what = format!("bytes in message {}", at + 1);
                Err(Fault::limit(&what, m.content.len() as u64, limits.message_bytes_max as u64, "message_bytes_max"))
            }
            _ => Ok(()),
        }
    }

    fn check_room(&self, user_id: &str, slot: &Slot, (bytes, messages): (u64, usize)) -> Result<(), Fault> {
        let (limits, index) = (self.limits(), &self.all.index);
        let user = index.size_of(user_id);
        if user.is_none() && index.users() >= limits.users_max {
            return Err(Fault::limit("users", index.users() as u64 + 1, limits.users_max as u64, "users_max"));
        }
        let (sessions, user_bytes) = user.unwrap_or_default();
        match slot {
            Slot::New { .. } if sessions >= limits.sessions_per_user_max => {
                let limit = limits.sessions_per_user_max as u64;
                return Err(Fault::limit("sessions of one user", sessions as u64 + 1, limit, "sessions_per_user_max"));
            }
            Slot::More { messages: before } if before + messages > limits.messages_per_session_max => {
                let (value, limit) = ((before + messages) as u64, limits.messages_per_session_max as u64);
                return Err(Fault::limit("messages in one session", value, limit, "messages_per_session_max"));
            }
            _ => {}
        }
        if user_bytes + bytes > limits.user_bytes_max {
            return Err(Fault::limit("bytes of one user", user_bytes + bytes, limits.user_bytes_max, "user_bytes_max"));
        }
        let total = index.spool_bytes() + bytes;
        if total > limits.spool_bytes_max {
            return Err(Fault::limit("bytes of all sessions", total, limits.spool_bytes_max, "spool_bytes_max"));
        }
        Ok(())
    }

    /// Tells the sums of the file.
    pub fn finish(mut self) {
        let Tally { empty, kept_apart, unread_times, half_characters, other_branches, copied, nameless } =
            std::mem::take(&mut self.tally);
        let sum = &mut self.all.summary;
        sum.empty_messages += empty;
        sum.kept_apart += kept_apart;
        sum.unread_times += unread_times;
        sum.half_characters += half_characters;
        sum.other_branches += other_branches;
        sum.copied_sessions += copied;
        let whose = match self.manner.each_its_own_user {
            true => "each was read as a person of its own; name one with `user` if they are all of one person",
            false => "all were read as one person, named after the file; name the person with `user`",
        };
        let sums = [
            (empty, "messages without text", "text", "they were dropped"),
            (
                kept_apart,
                "messages that are instructions, hidden or reasoning",
                "",
                "they are kept apart, in the role `system`",
            ),
            (unread_times, "times that cannot be read", "RFC 3339 or unix time", "what they date is kept, undated"),
            (
                half_characters,
                "halves of characters (lone surrogates)",
                "whole characters",
                "each was replaced by U+FFFD",
            ),
            (other_branches, "messages off the active branch", "", "edited and regenerated turns are not read"),
            (copied, "sessions that this user has already, word for word", "each session once", "each was read once"),
            (nameless, "sessions that name no user", "a user id", whose),
        ];
        for (count, what, expected, hint) in sums.into_iter().filter(|(count, ..)| *count > 0) {
            self.notice(Place::File, Fault::new(format!("{count} {what}"), expected, hint));
        }
    }
}

/// A session as it stands in the spool: native JSON.
#[derive(Serialize)]
struct Written<'a> {
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    messages: &'a [Message],
}

impl Written<'_> {
    fn json(session_id: &str, parsed: &Parsed) -> Vec<u8> {
        let written = Written { session_id, started_at: parsed.started_at, messages: &parsed.messages };
        // Text, numbers and times always serialise: there is no map with keys that are not text.
        serde_json::to_vec(&written).unwrap_or_default()
    }
}
