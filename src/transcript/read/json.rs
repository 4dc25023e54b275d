//! The loop over the records of every JSON format.

use std::collections::HashMap;
use std::io::BufRead;

use serde_json::Value;
use serde_json::value::RawValue;

use super::ReadError;
use super::collect::{FileSink, Parsed};
use super::problem::{Fault, Place};
use super::records::{Raw, Records, Shape};

/// Reads one record.
pub(super) type Parse = fn(&Value) -> Result<Parsed, Fault>;

/// Reads all records of a stream.
///
/// # Errors
/// Only when the temporary file fails.
pub(super) fn read(
    input: impl BufRead,
    shape: Shape,
    parse: Parse,
    sink: &mut FileSink<'_, '_>,
) -> Result<(), ReadError> {
    let limit = sink.limits().record_bytes_max;
    let mut records = Records::new(input, shape, limit);
    let mut last_read = true;
    loop {
        let parsed = match records.next() {
            Ok(None) => break,
            Ok(Some(Raw::TooLong { bytes })) => {
                Err(Fault::limit("bytes in one record", bytes, limit as u64, "record_bytes_max"))
            }
            Ok(Some(Raw::Bytes(bytes))) => value(bytes).and_then(|(value, half_characters)| {
                let mut parsed = parse(&value)?;
                parsed.notes.half_characters = half_characters;
                Ok(parsed)
            }),
            Err(error) => {
                sink.broke_off(records.here(), &error);
                return Ok(());
            }
        };
        let place = records.place();
        last_read = parsed.is_ok();
        match parsed {
            Ok(parsed) => sink.session(place, parsed, 1)?,
            Err(fault) => sink.left_out(place, fault, 1),
        }
    }
    if records.list_is_open() {
        let fault = Fault::new("a JSON list without its end", "a `]`", "the file is cut off; get it again");
        // A list cut inside an element has lost that element, which is counted already.
        match last_read {
            true => sink.left_out(records.here(), fault, 1),
            false => sink.notice(Place::File, fault),
        }
    }
    Ok(())
}

/// Parses a record, and counts the halves of characters replaced in it. The errors of `serde_json`
/// on untyped values name positions, never content.
fn value(bytes: &[u8]) -> Result<(Value, u64), Fault> {
    if let Err(e) = std::str::from_utf8(bytes) {
        return Err(bad_utf8(e.valid_up_to()));
    }
    let parsed = parsed_with_digits(bytes).map(|value| (value, 0)).or_else(|error| {
        let (mended, halves) = without_lone_surrogates(bytes);
        if halves == 0 { Err(error) } else { parsed_with_digits(&mended).map(|value| (value, halves)) }
    });
    parsed.map_err(|e| {
        let what = match e.classify() {
            serde_json::error::Category::Eof => "JSON that ends in the middle",
            _ => "invalid JSON",
        };
        Fault::new(format!("{what} (line {}, column {} of the record)", e.line(), e.column()), "one JSON object", "")
    })
}

/// A record whose own whole numbers of more than 64 bits are text, as written: rounded to floats, two
/// ids would become one.
fn parsed_with_digits(json: &[u8]) -> serde_json::Result<Value> {
    const WHOLE_IN_64_BITS: f64 = 18_446_744_073_709_551_616.0;
    let mut value: Value = serde_json::from_slice(json)?;
    if let Value::Object(fields) = &mut value {
        let long = |n: &Value| n.is_f64() && n.as_f64().is_some_and(|n| n.abs() >= WHOLE_IN_64_BITS);
        if fields.values().any(long) {
            let written: HashMap<String, &RawValue> = serde_json::from_slice(json)?;
            for (name, field) in fields.iter_mut().filter(|(_, field)| long(field)) {
                let digits = written.get(name).map(|raw| raw.get()).unwrap_or_default();
                if !digits.is_empty() && !digits.contains(['.', 'e', 'E']) {
                    *field = Value::from(digits);
                }
            }
        }
    }
    Ok(value)
}

/// JSON with `\ufffd` for every escape that is one half of a surrogate pair without the other, and
/// their number. Text cut by UTF-16 units, as in JavaScript, ends in such a half, and no text in
/// UTF-8 can hold one. No byte moves.
fn without_lone_surrogates(json: &[u8]) -> (Vec<u8>, u64) {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut out, mut halves, mut at) = (json.to_vec(), 0, 0);
    while at < json.len() {
        at += match (json[at], unit(at)) {
            (b'\\', Some(0xd800..0xdc00)) if matches!(unit(at + 6), Some(0xdc00..0xe000)) => 12,
            (b'\\', Some(0xd800..0xe000)) => {
                out[at..at + 6].copy_from_slice(b"\\ufffd");
                halves += 1;
                6
            }
            (b'\\', _) => 2,
            _ => 1,
        };
    }
    (out, halves)
}

/// Bytes that are not UTF-8.
pub(super) fn bad_utf8(byte: usize) -> Fault {
    let found = format!("invalid UTF-8 at byte {byte} of the record");
    Fault::new(found, "UTF-8", "convert the file, for example with `iconv -t UTF-8`")
}
