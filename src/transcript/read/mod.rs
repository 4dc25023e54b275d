//! Reads transcripts: many formats, packed or not, from files, folders and standard input.
//!
//! [`load`] streams every input once, cuts it into records, reads each record into a session, and
//! writes the session as native JSON into a temporary file; [`Corpus`] keeps only where each user's
//! sessions lie. [`Corpus::history`] then reads one user back.
//!
//! ```no_run
//! use throughline::transcript::read::{Source, load};
//!
//! let corpus = load(&Source::new(["chats/"]), &mut |_| {})?;
//! for problem in corpus.problems() {
//!     eprintln!("{problem}");
//! }
//! for index in 0..corpus.users().len() {
//!     let history = corpus.history(index)?;
//!     println!("{}: {} messages", history.user_id, history.message_count());
//! }
//! # Ok::<(), throughline::transcript::read::ReadError>(())
//! ```
//!
//! # Memory
//!
//! The index (about 150 bytes a user and 32 a session, and while reading also about 180 a session
//! for its id and a digest), one record (its bytes, and up to some ten times that while its JSON is parsed),
//! 64 MiB of sessions before they go to disk, and in [`Corpus::history`] one user. Packed files add
//! their window, 128 MiB at most; Parquet adds the pages of one row group.
//!
//! # Nothing is dropped in silence
//!
//! A record that cannot be read, or is over one of the [`Limits`], is left out whole, counted in
//! [`Summary::left_out`] and told as a [`Problem`]; the next one is read. Files passed over, empty
//! messages, hidden nodes, abandoned branches and unreadable times are counted and told as well.
//! No problem and no error ever shows the text of a message.
//!
//! # Whose session, and which
//!
//! The user is who the record names, else [`Source::user`], else the file: its name without
//! the extensions of its format and packing, or the name of its folder where it has the name that every export has
//! (`conversations.json`); where files of different folders would get the same name, the whole path
//! without extensions. The formats of collections of many people (ShareGPT, WildChat, LMSYS)
//! are the exception: there a record that names nobody is a person of its own, named after its
//! session, for a history made of strangers would be worse than many short ones.
//!
//! The session id is the one in the record, else `<file name>/<record number>`. Where a user has
//! the id already, the later session becomes `id#2`, `id#3` and so on, with a notice.
//! One that is the same word for word, with the same id, start and messages, is not kept again but
//! counted ([`Summary::copied_sessions`]); rows of CSV are not compared.
//!
//! # Roles and times
//!
//! Roles go by many names (`human`, `gpt`, `developer`, `function`, …); one that is unknown is a
//! problem of its record. Times are RFC 3339, with any offset; without a zone they are UTC; numbers
//! are unix seconds, or milliseconds where they are that large, or a calendar date without its
//! marks (`20260301201100`). A time that cannot be read is
//! counted, and what it dates is kept undated.
//!
//! # Order
//!
//! A user's sessions come in the order of time, and an undated one stays beside its neighbour in
//! its file ([`Corpus::history`]). The order in which files are given changes nothing, as files are
//! read in the order of their names. The order inside a file changes nothing about sessions that
//! are dated and have ids of their own; it decides where an undated session stands, and which of
//! two sessions keeps an id that both have.

use std::io::{self, BufRead, Read};
use std::path::Path;

mod chatgpt;
mod chats;
mod claude;
mod collect;
mod corpus;
mod csv;
mod detect;
mod error;
#[cfg(feature = "parquet")]
mod footer;
mod format;
mod input;
mod json;
mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod problem;
mod records;
mod source;
mod table;
mod text;
mod turns;
mod value;
mod wildcard;

pub use corpus::{Corpus, UserEntry};
pub use error::ReadError;
pub use format::{Format, UnknownFormatName};
pub use problem::{Outcome, Place, Problem, Summary};
pub use source::{CsvColumns, Limits, Progress, Source};
pub use table::{TableError, TableRow, table};

use collect::{Collector, FileSink};
use input::InputFile;
use problem::Fault;
use records::Shape;

/// Reads all files of a source.
///
/// # Errors
/// Paths that are not there, globs that match nothing, folders without a transcript, a file named
/// itself whose format cannot be told, more than [`Limits::files_max`] files, or a temporary file
/// that fails. Anything else is a [`Problem`] of the corpus.
pub fn load(source: &Source, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Corpus, ReadError> {
    let found = input::find(source)?;
    let mut all = Collector::new(source, progress);
    all.files_total = found.files.len() as u64;
    all.bytes_total = found.files.iter().map(|file| file.bytes).sum();
    let more = found.skipped_count - found.skipped.len() as u64;
    for problem in found.skipped {
        all.skip_file(problem);
    }
    all.skip_more(more);
    all.ambiguous = names::ambiguous(found.files.iter().filter_map(|file| file.path.as_deref()));
    for file in &found.files {
        match input::open_file(file) {
            Ok(stream) => read_stream(stream, file, &mut all)?,
            Err(source) if file.named => {
                return Err(ReadError::Open { path: file.path.clone().unwrap_or_default(), source });
            }
            Err(error) => unreadable(file, &error, &mut all),
        }
        all.files_done += 1;
    }
    Ok(all.finish())
}

/// Reads one stream as if it were a file of this name; [`Source::paths`] is not looked at.
///
/// # Errors
/// A format that cannot be told, or a temporary file that fails.
pub fn load_stream(
    name: &Path,
    stream: impl Read,
    source: &Source,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Corpus, ReadError> {
    let mut all = Collector::new(source, progress);
    let file = InputFile { path: Some(name.to_owned()), named: true, bytes: None };
    read_stream(Box::new(stream), &file, &mut all)?;
    Ok(all.finish())
}

fn unreadable(file: &InputFile, error: &io::Error, all: &mut Collector<'_>) {
    let fault =
        Fault::new(format!("a file that cannot be opened ({error})"), "a readable file", "check the permissions");
    all.skip_file(fault.at(&file.name(), Place::File, Outcome::FileSkipped));
}

fn read_stream<'s>(stream: Box<dyn Read + 's>, file: &InputFile, all: &mut Collector<'_>) -> Result<(), ReadError> {
    let limit = all.source.limits.unpacked_bytes_max;
    let opened = match input::open(stream, all.bytes_read.clone(), limit) {
        Ok(opened) => opened,
        Err(error) => {
            unreadable(file, &error, all);
            return Ok(());
        }
    };
    let path = file.path.as_deref();
    let format = match all.source.format {
        Some(format) => detect::foreign(&opened.head).map_or(Ok(format), Err),
        None => detect::format(&opened.head, path),
    };
    let format = match format {
        Ok(format) => format,
        Err(_) if file.named && all.source.format.is_none() && detect::foreign(&opened.head).is_none() => {
            return Err(ReadError::UnknownFormat { name: file.name() });
        }
        Err(what) => {
            let fault = Fault::new(what, "a transcript", "name the format if it is one");
            all.skip_file(fault.at(&file.name(), Place::File, Outcome::FileSkipped));
            return Ok(());
        }
    };
    let mut sink = FileSink::new(all, file.name(), path);
    sink.tell_progress();
    let shape = detect::shape(&opened.head, path);
    match format {
        Format::Csv => {
            let is_tsv = path.is_some_and(detect::is_tsv);
            let delimiter = csv::delimiter(&opened.head, is_tsv, &sink.source().csv);
            csv::read(opened.reader, delimiter, &mut sink)?;
        }
        Format::Text => text::read(opened.reader, &mut sink)?,
        Format::Parquet => read_parquet(opened.reader, &mut sink)?,
        _ => read_json(opened.reader, format, shape, &mut sink)?,
    }
    sink.finish();
    Ok(())
}

fn read_json(input: impl BufRead, format: Format, shape: Shape, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    let (parse, many_people): (json::Parse, bool) = match format {
        Format::ChatGpt => (chatgpt::conversation, false),
        Format::Claude => (claude::conversation, false),
        Format::ShareGpt => (chats::sharegpt, true),
        Format::WildChat => (chats::wildchat, true),
        _ => (chats::native, false),
    };
    sink.manner.each_its_own_user = many_people;
    json::read(input, shape, parse, sink)
}

#[cfg(feature = "parquet")]
fn read_parquet(input: impl BufRead, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    parquet::read(input, sink)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(_: impl BufRead, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    sink.skip_rest(Fault::new(
        "Apache Parquet, which this build cannot read",
        "a build with the feature `parquet`",
        "rebuild with `--features parquet`, or convert the file to JSON lines",
    ));
    Ok(())
}
