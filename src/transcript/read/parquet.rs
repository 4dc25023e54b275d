//! Apache Parquet files of the collections: rows like the JSON records of ShareGPT
//! (`conversations`), WildChat and LMSYS (`conversation`), or OpenAI chats (`messages`).
//!
//! Only the columns that are read are decoded, one row at a time; the pages of one row group are
//! in memory. The file needs seeking, so the stream is first copied to a temporary file, up to
//! [`Limits::unpacked_bytes_max`](super::Limits::unpacked_bytes_max).

use std::fs::File;
use std::io::{self, BufRead};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::{Map, Number, Value};

use super::collect::FileSink;
use super::json::Parse;
use super::problem::{Fault, Place};
use super::{ReadError, chats, footer};

/// Columns that any of the formats reads.
const COLUMNS: &[&str] = &[
    "conversation",
    "conversations",
    "messages",
    "user_id",
    "user",
    "hashed_ip",
    "session_id",
    "conversation_id",
    "conversation_hash",
    "id",
    "started_at",
    "timestamp",
    "tstamp",
    "created_at",
    "created",
];

/// Reads all rows of a file.
///
/// # Errors
/// Only when a temporary file fails.
pub(super) fn read(mut input: impl BufRead, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    let mut file = tempfile::tempfile().map_err(ReadError::spool)?;
    if let Err(error) = io::copy(&mut input, &mut file) {
        sink.skip_rest(Fault::new(format!("an unreadable file ({error})"), "a whole file", "get the file again"));
        return Ok(());
    }
    if let Err(found) = check(&mut file).map_err(ReadError::spool)? {
        sink.skip_rest(Fault::new(found, "a Parquet file", "get the file again"));
        return Ok(());
    }
    // The decoder is not ours, and has panicked on damaged files before: that ends the file, not the program.
    let opened = catch_unwind(AssertUnwindSafe(|| open(file)));
    let (rows, parse, many_people) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(fault)) => {
            sink.skip_rest(fault);
            return Ok(());
        }
        Err(_) => {
            sink.skip_rest(damaged());
            return Ok(());
        }
    };
    sink.manner.each_its_own_user = many_people;
    read_rows(rows, parse, sink)
}

/// All rows with all their columns; or the row at which it breaks off, from 1 (0: before any), and why.
pub(super) fn table(mut input: impl BufRead, row_bytes_max: usize) -> Result<Vec<Value>, (u64, String)> {
    let unreadable = |error: io::Error| (0_u64, format!("an unreadable file ({error})"));
    let mut file = tempfile::tempfile().map_err(unreadable)?;
    io::copy(&mut input, &mut file).map_err(unreadable)?;
    check(&mut file).map_err(unreadable)?.map_err(|found| (0_u64, found))?;
    let broken = |row: u64| (row, "damaged Parquet".to_owned());
    let all = || SerializedFileReader::new(file).map(|reader| RowIter::from_file_into(Box::new(reader)));
    let rows = catch_unwind(AssertUnwindSafe(all)).map_err(|_| broken(0))?;
    let mut rows = rows.map_err(|error| (0_u64, format!("unreadable Parquet ({})", short(&error))))?;
    let mut values = Vec::new();
    for number in 1_u64.. {
        let next = catch_unwind(AssertUnwindSafe(|| rows.next())).map_err(|_| broken(number))?;
        let Some(row) = next else { break };
        let row = row.map_err(|error| (number, format!("a row that cannot be read ({})", short(&error))))?;
        if row_bytes(&row) > row_bytes_max {
            return Err((number, format!("more than {row_bytes_max} bytes in one row")));
        }
        values.push(value_of_row(&row));
    }
    Ok(values)
}

/// Whether the decoder may be given the file; or what is wrong with it. It is left at its beginning.
fn check(file: &mut File) -> io::Result<Result<(), String>> {
    Ok(match footer::schema_depth(file)? {
        Some(depth) if depth <= footer::DEPTH_MAX => Ok(()),
        Some(_) => Err(format!("Parquet with more than {} levels of groups", footer::DEPTH_MAX)),
        None => Err("unreadable Parquet (damaged or not Parquet)".to_owned()),
    })
}

fn damaged() -> Fault {
    Fault::new("damaged Parquet", "a whole Parquet file", "get the file again")
}

fn read_rows(mut rows: RowIter<'static>, parse: Parse, sink: &mut FileSink<'_, '_>) -> Result<(), ReadError> {
    let limit = sink.limits().record_bytes_max;
    let mut number = 0;
    loop {
        number += 1;
        let place = Place::Row { number, line: 0 };
        match catch_unwind(AssertUnwindSafe(|| rows.next())) {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(row))) => {
                let bytes = row_bytes(&row);
                if bytes > limit {
                    let fault = Fault::limit("bytes in one row", bytes as u64, limit as u64, "record_bytes_max");
                    sink.left_out(place, fault, 1);
                    continue;
                }
                match parse(&value_of_row(&row)) {
                    Ok(parsed) => sink.session(place, parsed, 1)?,
                    Err(fault) => sink.left_out(place, fault, 1),
                }
            }
            Ok(Some(Err(_))) | Err(_) => {
                sink.left_out(place, damaged(), 1);
                return Ok(());
            }
        }
    }
}

fn open(file: File) -> Result<(RowIter<'static>, Parse, bool), Fault> {
    let broken = |e: ParquetError| {
        Fault::new(format!("unreadable Parquet ({})", short(&e)), "a Parquet file", "get the file again")
    };
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let schema = reader.metadata().file_metadata().schema_descr().root_schema().clone();
    let columns: Vec<_> = schema.get_fields().iter().filter(|c| COLUMNS.contains(&c.name())).cloned().collect();
    let has = |name: &str| columns.iter().any(|c| c.name() == name);
    let (parse, many_people): (Parse, bool) = if has("conversation") {
        (chats::wildchat, true)
    } else if has("conversations") {
        (chats::sharegpt, true)
    } else if has("messages") {
        (chats::native, false)
    } else {
        let expected = "a column `conversation`, `conversations` or `messages`";
        return Err(Fault::new("Parquet without the columns of a transcript", expected, ""));
    };
    let projection = Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(broken)?;
    let boxed: Box<dyn FileReader> = Box::new(reader);
    let rows =
        RowIter::from_file_into(boxed).project(Some(Arc::unwrap_or_clone(Arc::new(projection)))).map_err(broken)?;
    Ok((rows, parse, many_people))
}

/// The kind of an error: its text may quote the file.
fn short(error: &ParquetError) -> &'static str {
    match error {
        ParquetError::EOF(_) => "it ends in the middle",
        ParquetError::NYI(_) => "a feature that is not supported",
        _ => "damaged or not Parquet",
    }
}

fn row_bytes(row: &Row) -> usize {
    row.get_column_iter().map(|(name, field)| name.len() + field_bytes(field)).sum()
}

fn field_bytes(field: &Field) -> usize {
    match field {
        Field::Str(text) => text.len(),
        Field::Bytes(bytes) => bytes.len(),
        Field::Group(row) => row_bytes(row),
        Field::ListInternal(list) => list.elements().iter().map(field_bytes).sum(),
        Field::MapInternal(map) => map.entries().iter().map(|(k, v)| field_bytes(k) + field_bytes(v)).sum(),
        _ => 8,
    }
}

fn value_of_row(row: &Row) -> Value {
    Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), value_of(field))).collect())
}

/// A field as the JSON that the same record would be; bytes that are not text become nothing.
fn value_of(field: &Field) -> Value {
    let float = |f: f64| Number::from_f64(f).map_or(Value::Null, Value::Number);
    let unix = |whole: i64, per_second: i64| {
        let time = jiff::Timestamp::from_second(whole.div_euclid(per_second)).and_then(|t| {
            let nanoseconds = whole.rem_euclid(per_second) * (1_000_000_000 / per_second);
            t.checked_add(jiff::SignedDuration::from_nanos(nanoseconds))
        });
        time.map_or(Value::Bool(false), |t| Value::String(t.to_string()))
    };
    match field {
        Field::Bool(b) => Value::Bool(*b),
        Field::Byte(n) => (*n).into(),
        Field::Short(n) => (*n).into(),
        Field::Int(n) => (*n).into(),
        Field::Long(n) => (*n).into(),
        Field::UByte(n) => (*n).into(),
        Field::UShort(n) => (*n).into(),
        Field::UInt(n) => (*n).into(),
        Field::ULong(n) => (*n).into(),
        Field::Float(f) => float((*f).into()),
        Field::Double(f) => float(*f),
        Field::Str(text) => Value::String(text.clone()),
        Field::Bytes(bytes) => std::str::from_utf8(bytes.data()).map_or(Value::Null, Value::from),
        Field::Date(days) => unix(i64::from(*days) * 86_400, 1),
        Field::TimestampMillis(n) => unix(*n, 1_000),
        Field::TimestampMicros(n) => unix(*n, 1_000_000),
        Field::Group(row) => value_of_row(row),
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value_of).collect()),
        Field::MapInternal(map) => Value::Object(map.entries().iter().filter_map(entry).collect::<Map<_, _>>()),
        _ => Value::Null,
    }
}

fn entry((key, value): &(Field, Field)) -> Option<(String, Value)> {
    match key {
        Field::Str(key) => Some((key.clone(), value_of(value))),
        _ => None,
    }
}
