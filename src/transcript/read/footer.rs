//! How deep the schema of a Parquet file goes, told before the decoder builds it: that one calls itself once a level, without a
//! limit, and a stack that overflows ends the program.
//!
//! A file ends with its metadata, their length in four bytes, and `PAR1`. The metadata are Thrift's compact protocol
//! (`thrift-compact-protocol.md`); their field 2 is the schema, a list of elements in depth-first order, whose field 5 is the
//! number of their children (`parquet.thrift`, `FileMetaData` and `SchemaElement`).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// Levels of groups in a schema; those of real collections have ten.
pub(super) const DEPTH_MAX: usize = 64;
/// Metadata's length and `PAR1`.
const TAIL_BYTES: u64 = 8;

const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// The levels of the file's schema, as far as one more than is allowed; `None` of metadata that cannot be followed.
///
/// # Errors
/// When the file cannot be read. It is left at its beginning.
pub(super) fn schema_depth(file: &mut File) -> io::Result<Option<usize>> {
    let metadata = metadata(file)?;
    file.rewind()?;
    Ok(metadata.and_then(|bytes| Thrift { bytes: &bytes }.depth()))
}

fn metadata(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let end = file.seek(SeekFrom::End(0))?;
    let Some(before) = end.checked_sub(TAIL_BYTES) else { return Ok(None) };
    file.seek(SeekFrom::Start(before))?;
    let mut tail = [0; TAIL_BYTES as usize];
    file.read_exact(&mut tail)?;
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    let Some(start) = before.checked_sub(length) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// What is left of a value in the compact protocol.
struct Thrift<'b> {
    bytes: &'b [u8],
}

impl Thrift<'_> {
    /// Of the deepest schema among the fields: nobody says that there is one alone.
    fn depth(&mut self) -> Option<usize> {
        let (mut deepest, mut field) = (0, 0);
        while let Some(kind) = self.field(&mut field)? {
            if (field, kind) == (2, LIST) {
                deepest = deepest.max(self.schema()?);
            } else {
                self.skip(kind, DEPTH_MAX)?;
            }
        }
        Some(deepest)
    }

    fn schema(&mut self) -> Option<usize> {
        let (count, kind) = self.list()?;
        let mut deepest = 0;
        // Children that are still to come, of every group that is open.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..count {
            if kind != STRUCT {
                return None;
            }
            while open.pop_if(|left| *left == 0).is_some() {}
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            deepest = deepest.max(open.len() + 1);
            let children = self.children()?;
            if children > 0 && open.len() <= DEPTH_MAX {
                open.push(children);
            }
        }
        Some(deepest)
    }

    /// Of one element of a schema.
    fn children(&mut self) -> Option<i64> {
        let (mut children, mut field) = (0, 0);
        while let Some(kind) = self.field(&mut field)? {
            if (field, kind) == (5, I32) {
                children = self.number()?;
            } else {
                self.skip(kind, DEPTH_MAX)?;
            }
        }
        Some(children)
    }

    /// The kind of a struct's next field, whose number follows from the one before; `Some(None)` at its end.
    fn field(&mut self, field: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *field = match head >> 4 {
            0 => self.number()?,
            more => field.checked_add(i64::from(more))?,
        };
        Some(Some(head & 15))
    }

    /// The number of elements, and their kind.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((count, head & 15))
    }

    /// Passes over a value of a field.
    fn skip(&mut self, kind: u8, levels: usize) -> Option<()> {
        let levels = levels.checked_sub(1)?;
        match kind {
            // Booleans stand in the field's head.
            1 | 2 => Some(()),
            3 => self.bytes(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.bytes(8),
            8 => {
                let length = self.varint()?;
                self.bytes(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_element(kind, levels))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip_element(kinds >> 4, levels)?;
                    self.skip_element(kinds & 15, levels)
                })
            }
            STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, levels)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    /// Passes over a value in a list, where booleans are a byte.
    fn skip_element(&mut self, kind: u8, levels: usize) -> Option<()> {
        if matches!(kind, 1 | 2) { self.bytes(1) } else { self.skip(kind, levels) }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn bytes(&mut self, count: u64) -> Option<()> {
        self.bytes = self.bytes.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    /// A number with its sign in the lowest bit.
    fn number(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}
