//! CSV with a header line, one message a row.
//!
//! Rows of one session need not be adjacent: adjacent ones are written together, later ones are
//! added to the same session, and a session whose rows are all dated is put into the order of
//! time when it is read back (else the order of the file stands). A row of another number of
//! fields than the header is left out, and so is one whose quotes are not closed before the next
//! delimiter, line end or the end of the file: it may have swallowed rows of other people. Without
//! a session column, all rows of a user are one session.

use std::io::BufRead;

use csv_core::ReadRecordResult;

use super::collect::{FileSink, Notes, Parsed};
use super::problem::{Fault, Place};
use super::{CsvColumns, ReadError, json, value};
use crate::transcript::Message;

pub(super) const USER_NAMES: &[&str] = &["user", "user_id", "userid", "author_id", "customer_id"];
pub(super) const SESSION_NAMES: &[&str] =
    &["session", "session_id", "conversation", "conversation_id", "chat_id", "thread_id"];
pub(super) const ROLE_NAMES: &[&str] = &["role", "sender", "from", "author", "speaker"];
pub(super) const CONTENT_NAMES: &[&str] = &["content", "text", "message", "body", "value"];
pub(super) const TIME_NAMES: &[&str] = &["timestamp", "time", "created_at", "date", "datetime", "sent_at"];

/// Bytes of adjacent rows after which they are written: more rows of the session are added later.
const GROUP_BYTES: usize = 1 << 20;
const FIELDS_MAX: usize = 4096;

/// A column name as it is compared.
pub(super) fn column_name(name: &str) -> String {
    name.trim().trim_matches('"').trim().to_lowercase()
}

/// The delimiter of a file: as set, a tab in `.tsv`, else what the first line has most of.
pub(super) fn delimiter(head: &[u8], is_tsv: bool, columns: &CsvColumns) -> u8 {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let count = |byte: u8| line.iter().filter(|&&b| b == byte).count();
    let most = || [b'\t', b';', b','].into_iter().max_by_key(|&byte| count(byte)).unwrap_or(b',');
    columns.delimiter.unwrap_or_else(|| if is_tsv { b'\t' } else { most() })
}

/// One row, or what is wrong with it.
#[derive(Debug)]
pub(super) enum Row {
    Fields(Vec<String>),
    Bad(Fault),
}

/// Where a row stands among its quotes: `csv_core` reads on, whatever is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    /// In a field without quotes, where a quote is a character like any other.
    Plain,
    Inside,
    /// After a quote inside quotes: the end of the field, or the first of two.
    Closing,
}

/// The quotes of one row.
#[derive(Debug)]
struct RowQuotes {
    delimiter: u8,
    at: Quotes,
    /// Line feeds inside quotes.
    lines: u64,
    ends_in_line_feed: bool,
    text_after_closing: bool,
}

impl RowQuotes {
    fn new(delimiter: u8) -> Self {
        RowQuotes { delimiter, at: Quotes::FieldStart, lines: 0, ends_in_line_feed: false, text_after_closing: false }
    }

    fn step(&mut self, byte: u8) {
        let ends_field = byte == self.delimiter || matches!(byte, b'\r' | b'\n');
        let inside = self.at == Quotes::Inside;
        self.lines += u64::from(inside && byte == b'\n');
        self.ends_in_line_feed = byte == b'\n';
        self.at = match self.at {
            Quotes::Inside if byte == b'"' => Quotes::Closing,
            Quotes::Inside => Quotes::Inside,
            Quotes::FieldStart | Quotes::Closing if byte == b'"' => Quotes::Inside,
            _ if ends_field => Quotes::FieldStart,
            before => {
                self.text_after_closing |= before == Quotes::Closing;
                Quotes::Plain
            }
        };
    }

    /// What is wrong with them at the end of the row.
    fn fault(&self) -> Option<Fault> {
        let open = self.at == Quotes::Inside;
        let (what, hint) = match (open, self.text_after_closing) {
            (true, _) => ("a quote that is never closed", "close it, and read again what stands after it"),
            (_, true) => ("text after a closing quote", "double the quotes inside a quoted field"),
            _ => return None,
        };
        // The line feed at the end of a file begins no line.
        let lines = self.lines - u64::from(open && self.ends_in_line_feed);
        let swallowed = match lines {
            0 => String::new(),
            1 => ", with 1 more line inside".to_owned(),
            _ => format!(", with {lines} more lines inside"),
        };
        Some(Fault::new(format!("{what}{swallowed}"), "quotes closed at the end of their field", hint))
    }
}

/// The rows of a stream, each of at most `limit` bytes.
pub(super) struct Rows<R> {
    input: R,
    core: csv_core::Reader,
    delimiter: u8,
    output: Vec<u8>,
    ends: Vec<usize>,
    limit: usize,
    number: u64,
    line: u64,
}

impl<R: BufRead> Rows<R> {
    pub fn new(input: R, delimiter: u8, limit: usize) -> Self {
        let core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Rows { input, core, delimiter, output: vec![0; 4096], ends: vec![0; 64], limit, number: 0, line: 1 }
    }

    pub fn next(&mut self) -> std::io::Result<Option<Row>> {
        let (mut written, mut fields) = (0, 0);
        let mut size = 0_u64;
        let mut too_many = false;
        let mut quotes = RowQuotes::new(self.delimiter);
        self.line = self.core.line();
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let (result, used, out, ends) =
                self.core.read_record(chunk, &mut self.output[written..], &mut self.ends[fields..]);
            chunk[..used].iter().for_each(|&byte| quotes.step(byte));
            self.input.consume(used);
            written += out;
            size += out as u64;
            fields += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.output.len() < self.limit => {
                    let len = (self.output.len() * 2).min(self.limit);
                    self.output.resize(len, 0);
                }
                ReadRecordResult::OutputFull => written = 0,
                ReadRecordResult::OutputEndsFull if self.ends.len() < FIELDS_MAX => {
                    self.ends.resize(self.ends.len() * 2, 0);
                }
                ReadRecordResult::OutputEndsFull => (fields, too_many) = (0, true),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        self.number += 1;
        if let Some(fault) = quotes.fault() {
            return Ok(Some(Row::Bad(fault)));
        }
        if too_many {
            let fault =
                Fault::new("a row of too many fields", format!("at most {FIELDS_MAX}"), "is the delimiter right?");
            return Ok(Some(Row::Bad(fault)));
        }
        if size > written as u64 || size > self.limit as u64 {
            let limit = self.limit as u64;
            return Ok(Some(Row::Bad(Fault::limit("bytes in one row", size, limit, "record_bytes_max"))));
        }
        let row = self.fields(written, fields);
        self.output.truncate(1 << 20);
        self.output.shrink_to_fit();
        Ok(Some(row))
    }

    fn fields(&self, written: usize, count: usize) -> Row {
        let mut fields = Vec::with_capacity(count);
        let mut start = 0;
        for &end in &self.ends[..count] {
            let Some(bytes) = self.output[..written].get(start..end) else {
                return Row::Bad(Fault::new("a row that cannot be cut into fields", "", ""));
            };
            match std::str::from_utf8(bytes) {
                Ok(text) => fields.push(text.to_owned()),
                Err(e) => return Row::Bad(json::bad_utf8(start + e.valid_up_to())),
            }
            start = end;
        }
        Row::Fields(fields)
    }

    /// The last row; the header is not one.
    /// The line in which the row begins that was read last.
    pub fn line(&self) -> u64 {
        self.line
    }

    fn place(&self) -> Place {
        Place::Row { number: self.number.saturating_sub(1), line: self.line }
    }
}

/// Where the columns are.
#[derive(Debug)]
struct Columns {
    count: usize,
    user: Option<usize>,
    session: Option<usize>,
    role: usize,
    content: usize,
    time: Option<usize>,
}

impl Columns {
    fn find(header: &[String], wanted: &CsvColumns) -> Result<Self, Fault> {
        let names: Vec<String> = header.iter().map(|name| column_name(name)).collect();
        let at = |wanted: &Option<String>, usual: &[&str]| match wanted {
            Some(name) => match names.iter().position(|n| *n == column_name(name)) {
                Some(at) => Ok(Some(at)),
                None => Err(missing(name)),
            },
            None => Ok(usual.iter().find_map(|name| names.iter().position(|n| n == name))),
        };
        Ok(Columns {
            count: names.len(),
            user: at(&wanted.user, USER_NAMES)?,
            session: at(&wanted.session, SESSION_NAMES)?,
            role: at(&wanted.role, ROLE_NAMES)?.ok_or_else(|| missing("role"))?,
            content: at(&wanted.content, CONTENT_NAMES)?.ok_or_else(|| missing("content"))?,
            time: at(&wanted.timestamp, TIME_NAMES)?,
        })
    }
}

fn missing(name: &str) -> Fault {
    Fault::new(
        format!("no column `{name}` in the first line"),
        "a header line with the columns role and content at least",
        "name the columns of the file, and the delimiter",
    )
}

/// Adjacent rows of one session.
struct Group {
    place: Place,
    rows: u64,
    bytes: usize,
    parsed: Parsed,
}

/// Reads all rows of a stream.
///
/// # Errors
/// Only when the temporary file fails.
pub(super) fn read(input: impl BufRead, delimiter: u8, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    sink.manner.rows = true;
    let mut rows = Rows::new(input, delimiter, sink.limits().record_bytes_max);
    let mut columns = None;
    let mut group: Option<Group> = None;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => {
                flush(&mut group, sink)?;
                let Place::Row { number, line } = rows.place() else {
                    break;
                };
                sink.broke_off(Place::Row { number: number + 1, line }, &error);
                return Ok(());
            }
        };
        let place = rows.place();
        let Some(columns) = &columns else {
            match header(row, &sink.source().csv) {
                Ok(found) => columns = Some(found),
                Err(fault) => {
                    sink.skip_rest(fault);
                    return Ok(());
                }
            }
            continue;
        };
        match message(row, columns, sink) {
            Ok(one) => add(one, place, &mut group, sink)?,
            Err(fault) => sink.left_out(place, fault, 1),
        }
    }
    flush(&mut group, sink)
}

fn header(row: Row, wanted: &CsvColumns) -> Result<Columns, Fault> {
    match row {
        Row::Fields(fields) => Columns::find(&fields, wanted),
        Row::Bad(fault) => Err(fault),
    }
}

/// A row as a session of one message.
fn message(row: Row, columns: &Columns, sink: &FileSink<'_, '_>) -> Result<Parsed, Fault> {
    let mut fields = match row {
        Row::Fields(fields) => fields,
        Row::Bad(fault) => return Err(fault),
    };
    if fields.len() != columns.count {
        let hint = "put quotes around fields that hold the delimiter, quotes or line ends";
        return Err(Fault::new(format!("{} fields", fields.len()), format!("{}", columns.count), hint));
    }
    let role = value::role(&fields[columns.role])
        .ok_or_else(|| Fault::new("an unknown role", "the name of a role", value::ROLE_HINT))?;
    let bytes = fields[columns.content].len();
    let limit = sink.limits().message_bytes_max;
    if bytes > limit {
        return Err(Fault::limit("bytes in one message", bytes as u64, limit as u64, "message_bytes_max"));
    }
    let mut notes = Notes::default();
    let timestamp = columns.time.and_then(|at| {
        value::time_of_text(&fields[at]).unwrap_or_else(|_| {
            notes.unread_times += 1;
            None
        })
    });
    let mut id = |at: Option<usize>| at.map(|at| std::mem::take(&mut fields[at])).filter(|id| !id.trim().is_empty());
    let (user_id, session_id) = (id(columns.user), id(columns.session));
    let content = std::mem::take(&mut fields[columns.content]);
    Ok(Parsed {
        user_id,
        session_id: Some(session_id.unwrap_or_else(|| sink.stem().to_owned())),
        started_at: None,
        messages: vec![Message { role, content, timestamp }],
        notes,
    })
}

fn add(one: Parsed, place: Place, group: &mut Option<Group>, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    let bytes: usize = one.messages.iter().map(|m| m.content.len()).sum();
    let messages_max = sink.limits().messages_per_session_max;
    match group {
        Some(group)
            if group.parsed.user_id == one.user_id
                && group.parsed.session_id == one.session_id
                && group.bytes < GROUP_BYTES
                && group.parsed.messages.len() < messages_max =>
        {
            group.rows += 1;
            group.bytes += bytes;
            group.parsed.messages.extend(one.messages);
            group.parsed.notes.unread_times += one.notes.unread_times;
        }
        _ => {
            flush(group, sink)?;
            *group = Some(Group { place, rows: 1, bytes, parsed: one });
        }
    }
    Ok(())
}

fn flush(group: &mut Option<Group>, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    match group.take() {
        Some(group) => sink.session(group.place, group.parsed, group.rows),
        None => Ok(()),
    }
}
