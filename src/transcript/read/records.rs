//! Cuts a stream into records without holding more than one of them: lines, or the elements of a
//! JSON list.
//!
//! A JSON list is cut by brackets and quotes alone, so that an element that is not valid JSON, not
//! valid UTF-8 or too long is one bad record and the next is still read; `serde_json`'s streaming
//! would stop at the first of these, or hold the element whole before it could refuse it.

use std::io::{self, BufRead};
use std::ops::Range;

use super::problem::Place;

/// How records follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One record a line.
    Lines,
    /// Lines of plain text, which may end in carriage returns alone.
    TextLines,
    /// Elements of one JSON list, or JSON values one after the other, on any number of lines.
    Values,
}

/// One record, or the size of one too long to keep.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Raw<'a> {
    Bytes(&'a [u8]),
    TooLong { bytes: u64 },
}

/// What to do with a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Between records.
    Skip,
    /// Part of the record.
    Keep,
    /// The last byte of the record.
    KeepAndEnd,
    /// The record ended before this byte.
    End,
}

/// Where a JSON text stands.
#[derive(Debug, Default)]
struct JsonCut {
    list: bool,
    depth: u64,
    in_string: bool,
    escaped: bool,
    bare: bool,
}

impl JsonCut {
    fn step(&mut self, byte: u8) -> Step {
        if self.in_string {
            return self.step_string(byte);
        }
        if self.depth > 0 {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            return if self.depth == 0 { Step::KeepAndEnd } else { Step::Keep };
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => self.end_bare(),
            b']' if self.list => {
                self.list = false;
                self.end_bare()
            }
            b'[' if !self.list && !self.bare => {
                self.list = true;
                Step::Skip
            }
            b'{' | b'[' => {
                self.bare = false;
                self.depth = 1;
                Step::Keep
            }
            b'"' => {
                self.bare = true;
                self.in_string = true;
                Step::Keep
            }
            _ => {
                self.bare = true;
                Step::Keep
            }
        }
    }

    fn step_string(&mut self, byte: u8) -> Step {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
        Step::Keep
    }

    /// A number, word or string at the top level ends at a comma or space.
    fn end_bare(&mut self) -> Step {
        if std::mem::take(&mut self.bare) { Step::End } else { Step::Skip }
    }
}

/// What a piece of a JSON text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// It has the end of a first list or object at this byte.
    Ends(usize),
    /// It breaks off inside a string.
    InString,
    /// It breaks off elsewhere.
    Open,
}

/// How far the first object of a text goes.
pub(super) fn first_object(text: &[u8]) -> Piece {
    let mut cut = JsonCut::default();
    match text.iter().position(|&byte| cut.step(byte) == Step::KeepAndEnd) {
        Some(at) => Piece::Ends(at),
        None if cut.in_string => Piece::InString,
        None => Piece::Open,
    }
}

#[derive(Debug)]
enum Cut {
    Lines,
    TextLines { after_return: bool },
    Json(JsonCut),
}

/// What a chunk of the stream holds of one record.
#[derive(Debug)]
struct Scan {
    /// The bytes that are part of the record.
    keep: Range<usize>,
    /// The bytes done with.
    used: usize,
    /// Whether the record ends in this chunk.
    ended: bool,
}

impl Cut {
    fn scan(&mut self, chunk: &[u8]) -> Scan {
        let json = match self {
            Cut::Json(json) => json,
            Cut::Lines => {
                let end = chunk.iter().position(|&byte| byte == b'\n');
                let keep = 0..end.unwrap_or(chunk.len());
                return Scan { used: end.map_or(chunk.len(), |at| at + 1), keep, ended: end.is_some() };
            }
            Cut::TextLines { after_return } => {
                let start = usize::from(std::mem::take(after_return) && chunk[0] == b'\n');
                let end = chunk[start..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).map(|at| start + at);
                *after_return = end.is_some_and(|at| chunk[at] == b'\r');
                let keep = start..end.unwrap_or(chunk.len());
                return Scan { used: end.map_or(chunk.len(), |at| at + 1), keep, ended: end.is_some() };
            }
        };
        let mut start = None;
        for (at, &byte) in chunk.iter().enumerate() {
            let step = json.step(byte);
            if step != Step::Skip {
                start.get_or_insert(at);
            }
            let from = start.unwrap_or(at);
            match step {
                Step::Skip | Step::Keep => {}
                Step::KeepAndEnd => {
                    return Scan { keep: from..at + 1, used: at + 1, ended: true };
                }
                Step::End => {
                    return Scan { keep: from..at, used: at + 1, ended: true };
                }
            }
        }
        Scan { keep: start.unwrap_or(chunk.len())..chunk.len(), used: chunk.len(), ended: false }
    }
}

/// The records of a stream, one at a time.
pub(super) struct Records<R> {
    input: R,
    cut: Cut,
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes consumed.
    offset: u64,
    /// Ends of lines consumed.
    lines: u64,
    number: u64,
    start: (u64, u64),
}

impl<R: BufRead> Records<R> {
    /// Records of at most `limit` bytes; longer ones are passed over and told by their size.
    pub fn new(input: R, shape: Shape, limit: usize) -> Self {
        let cut = match shape {
            Shape::Lines => Cut::Lines,
            Shape::TextLines => Cut::TextLines { after_return: false },
            Shape::Values => Cut::Json(JsonCut::default()),
        };
        Records { input, cut, limit, buffer: Vec::new(), offset: 0, lines: 0, number: 0, start: (0, 0) }
    }

    /// The next record that is not blank.
    ///
    /// # Errors
    /// What the stream reports; a record begun before is lost with it.
    pub fn next(&mut self) -> io::Result<Option<Raw<'_>>> {
        loop {
            let Some(size) = self.fill()? else {
                return Ok(None);
            };
            let blank = size as usize == self.buffer.len() && self.buffer.iter().all(u8::is_ascii_whitespace);
            if !blank {
                self.number += 1;
                if size > self.limit as u64 {
                    return Ok(Some(Raw::TooLong { bytes: size }));
                }
                return Ok(Some(Raw::Bytes(&self.buffer)));
            }
        }
    }

    /// The next line as it stands, blank ones too, without its line end.
    pub fn next_line(&mut self) -> io::Result<Option<Raw<'_>>> {
        let Some(size) = self.fill()? else {
            return Ok(None);
        };
        if size > self.limit as u64 {
            return Ok(Some(Raw::TooLong { bytes: size }));
        }
        Ok(Some(Raw::Bytes(&self.buffer)))
    }

    /// Reads one record into the buffer, up to the limit, and returns its full size.
    fn fill(&mut self) -> io::Result<Option<u64>> {
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        let mut size = 0_u64;
        let mut any = false;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                return Ok(any.then_some(size));
            }
            let scan = self.cut.scan(chunk);
            if !any && (scan.keep.start < scan.used || scan.ended) {
                any = true;
                self.start = (self.offset + scan.keep.start as u64, self.lines + 1);
            }
            let kept = &chunk[scan.keep.clone()];
            let room = self.limit.saturating_sub(self.buffer.len());
            self.buffer.extend_from_slice(&kept[..kept.len().min(room)]);
            size += kept.len() as u64;
            self.lines += u64::from(scan.ended && !matches!(self.cut, Cut::Json(_)));
            self.offset += scan.used as u64;
            self.input.consume(scan.used);
            if scan.ended {
                return Ok(Some(size));
            }
        }
    }

    /// Where the last record began.
    pub fn place(&self) -> Place {
        match self.cut {
            Cut::Lines | Cut::TextLines { .. } => Place::Line(self.start.1),
            Cut::Json(_) => Place::Record { number: self.number, byte_offset: self.start.0 },
        }
    }

    /// Where the stream stands now.
    pub fn here(&self) -> Place {
        match self.cut {
            Cut::Lines | Cut::TextLines { .. } => Place::Line(self.lines + 1),
            Cut::Json(_) => Place::Record { number: self.number + 1, byte_offset: self.offset },
        }
    }

    /// True when the stream ended inside a JSON list: the file is cut off.
    pub fn list_is_open(&self) -> bool {
        matches!(&self.cut, Cut::Json(json) if json.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, shape: Shape, limit: usize) -> Vec<String> {
        let mut records = Records::new(io::BufReader::with_capacity(3, text.as_bytes()), shape, limit);
        let mut out = Vec::new();
        while let Some(raw) = records.next().unwrap() {
            out.push(match raw {
                Raw::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Raw::TooLong { bytes } => format!("too long: {bytes}"),
            });
        }
        out
    }

    #[test]
    fn cuts_lines_and_counts_long_ones() {
        assert_eq!(cut("a\n\n  \nbcdef\ngh", Shape::Lines, 4), ["a", "too long: 5", "gh"]);
    }

    #[test]
    fn cuts_lines_of_text_at_every_kind_of_line_end() {
        for bytes in 1..9 {
            let text = io::BufReader::with_capacity(bytes, &b"a\r\rb\r\n\r\nc\n\nd\r\n"[..]);
            let mut lines = Records::new(text, Shape::TextLines, 9);
            let mut out = String::new();
            while let Some(Raw::Bytes(line)) = lines.next_line().unwrap() {
                out += std::str::from_utf8(line).unwrap();
                out += &format!("{:?},", lines.place()).replace("Line", "");
            }
            assert_eq!(out, "a(1),(2),b(3),(4),c(5),(6),d(7),");
        }
    }

    #[test]
    fn cuts_a_list_into_elements() {
        let text = r#" [ {"a":"]}\"{"} , [1,{"b":2}],{}, 12,"x, y" ]"#;
        assert_eq!(cut(text, Shape::Values, 99), [r#"{"a":"]}\"{"}"#, r#"[1,{"b":2}]"#, "{}", "12", r#""x, y""#]);
    }

    #[test]
    fn cuts_values_one_after_the_other() {
        assert_eq!(cut("{\n\"a\":1\n}\n{}{\"b\":[2]}", Shape::Values, 99), ["{\n\"a\":1\n}", "{}", "{\"b\":[2]}"]);
    }

    #[test]
    fn passes_over_a_long_element() {
        assert_eq!(
            cut(r#"[{"a":1},{"a":123456789},{"a":2}]"#, Shape::Values, 8),
            [r#"{"a":1}"#, "too long: 15", r#"{"a":2}"#]
        );
    }

    #[test]
    fn tells_where_records_begin_and_whether_the_list_ended() {
        let mut records = Records::new(&b"[{},\n{}"[..], Shape::Values, 99);
        records.next().unwrap();
        records.next().unwrap();
        assert_eq!(records.place(), Place::Record { number: 2, byte_offset: 5 });
        assert_eq!(records.next().unwrap(), None);
        assert!(records.list_is_open());
    }
}
