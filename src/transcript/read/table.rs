//! Records as they stand, for readers that need fields no transcript has, such as labels.
//!
//! Strict where [`load`](super::load) is lenient: a record that cannot be read is an error, for a
//! set of labels with a hole in it measures something else.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Map, Value};

use super::csv::{Row, Rows};
use super::{CsvColumns, Limits, csv, detect, input};

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// The line it begins in, from 1; in Parquet the row.
    pub line: u64,
    /// An object. Fields of CSV are strings.
    pub value: Value,
}

/// Why a table cannot be read. No field's value stands in it.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file is not there, cannot be opened, or breaks off.
    #[error("cannot read {path}: {cause}; hint: check the path and the permissions", path = .path.display())]
    Open { path: PathBuf, cause: io::Error },
    /// A record that is none.
    #[error("{path}:{line}: {found}; hint: {hint}", path = .path.display())]
    Row { path: PathBuf, line: u64, found: String, hint: &'static str },
}

/// All records of one file of JSON lines, CSV with a header, or Parquet, packed with gzip or zstd or not.
///
/// # Errors
/// At the first record that cannot be read or is over a limit.
pub fn table(path: &Path, limits: &Limits) -> Result<Vec<TableRow>, TableError> {
    let open = |cause| TableError::Open { path: path.to_owned(), cause };
    let file: Box<dyn Read> = Box::new(File::open(path).map_err(open)?);
    let opened = input::open(file, Rc::new(Cell::new(0)), limits.unpacked_bytes_max).map_err(open)?;
    let at = Reading { path, limits };
    if opened.head.starts_with(b"PAR1") {
        return at.parquet(opened.reader);
    }
    if let Some(what) = detect::foreign(&opened.head) {
        return Err(at.row(0, what.into(), "JSON lines, CSV or Parquet"));
    }
    match detect::extension(path) {
        detect::Extension::Csv => {
            let delimiter = csv::delimiter(&opened.head, detect::is_tsv(path), &CsvColumns::default());
            at.csv(opened.reader, delimiter)
        }
        _ => at.json_lines(opened.reader),
    }
}

struct Reading<'a> {
    path: &'a Path,
    limits: &'a Limits,
}

impl Reading<'_> {
    fn row(&self, line: u64, found: String, hint: &'static str) -> TableError {
        TableError::Row { path: self.path.to_owned(), line, found, hint }
    }

    fn json_lines(&self, mut reader: impl BufRead) -> Result<Vec<TableRow>, TableError> {
        let mut rows = Vec::new();
        let mut bytes = Vec::new();
        let limit = self.limits.record_bytes_max;
        for line in 1.. {
            bytes.clear();
            let read = (&mut reader).take(limit as u64 + 1).read_until(b'\n', &mut bytes);
            if read.map_err(|cause| TableError::Open { path: self.path.to_owned(), cause })? == 0 {
                break;
            }
            if bytes.len() > limit {
                let found = format!("more than {limit} bytes in one line");
                return Err(self.row(line, found, "one record a line"));
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(&bytes) {
                Ok(value @ Value::Object(_)) => rows.push(TableRow { line, value }),
                Ok(_) => return Err(self.row(line, "JSON, but no object".into(), "one object a line")),
                // serde_json's own words may hold a part of the text.
                Err(error) => {
                    let found = format!("no JSON from column {} on", error.column());
                    return Err(self.row(line, found, "one JSON object a line"));
                }
            }
        }
        Ok(rows)
    }

    fn csv(&self, reader: impl BufRead, delimiter: u8) -> Result<Vec<TableRow>, TableError> {
        let mut lines = Rows::new(reader, delimiter, self.limits.record_bytes_max);
        let mut header: Option<Vec<String>> = None;
        let mut rows = Vec::new();
        while let Some(row) = lines.next().map_err(|cause| TableError::Open { path: self.path.to_owned(), cause })? {
            let line = lines.line();
            let fields = match row {
                Row::Fields(fields) => fields,
                Row::Bad(fault) => return Err(self.row(line, fault.found, "CSV with a header line, in UTF-8")),
            };
            let Some(names) = &header else {
                header = Some(fields.iter().map(|name| name.trim().to_owned()).collect());
                continue;
            };
            if fields.len() != names.len() {
                let found = format!("{} fields, the header has {}", fields.len(), names.len());
                return Err(self.row(line, found, "put quotes around fields that hold the delimiter"));
            }
            let fields = names.iter().cloned().zip(fields.into_iter().map(Value::String));
            rows.push(TableRow { line, value: Value::Object(fields.collect::<Map<_, _>>()) });
        }
        Ok(rows)
    }

    #[cfg(feature = "parquet")]
    fn parquet(&self, reader: impl BufRead) -> Result<Vec<TableRow>, TableError> {
        let rows = super::parquet::table(reader, self.limits.record_bytes_max);
        let rows = rows.map_err(|(row, found)| self.row(row, found, "a whole Parquet file"))?;
        Ok(rows.into_iter().zip(1..).map(|(value, line)| TableRow { line, value }).collect())
    }

    #[cfg(not(feature = "parquet"))]
    fn parquet(&self, _: impl BufRead) -> Result<Vec<TableRow>, TableError> {
        let found = "Apache Parquet, which this build cannot read";
        Err(self.row(0, found.into(), "rebuild with `--features parquet`, or convert the file to JSON lines"))
    }
}
