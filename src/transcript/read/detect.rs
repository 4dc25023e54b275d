//! Tells the format of a file: from its content where that is JSON, else from its extension.

use std::path::Path;

use super::records::{Piece, Shape, first_object};
use super::{Format, csv, text};

pub(super) const EXTENSIONS: &str = ".jsonl .ndjson .json .csv .tsv .txt .md .parquet, also with .gz or .zst";

/// What the name of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extension {
    JsonLines,
    Json,
    Csv,
    Text,
    Markdown,
    Parquet,
    Unknown,
}

/// Reads the extension, the one before `.gz` or `.zst` where there is one of these.
pub(super) fn extension(path: &Path) -> Extension {
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    without_packing(&name).rsplit_once('.').map_or(Extension::Unknown, |(_, last)| known(last))
}

/// The name of a file without the extensions of a known format and packing.
pub(super) fn without_extensions(name: &str) -> &str {
    let plain = without_packing(name);
    match plain.rsplit_once('.') {
        Some((stem, last)) if known(last) != Extension::Unknown => stem,
        _ => plain,
    }
}

fn without_packing(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((plain, last)) if ["gz", "zst", "zstd"].iter().any(|packed| last.eq_ignore_ascii_case(packed)) => plain,
        _ => name,
    }
}

fn known(extension: &str) -> Extension {
    match extension.to_ascii_lowercase().as_str() {
        "jsonl" | "ndjson" => Extension::JsonLines,
        "json" => Extension::Json,
        "csv" | "tsv" => Extension::Csv,
        "txt" | "text" => Extension::Text,
        "md" | "markdown" => Extension::Markdown,
        "parquet" | "pq" => Extension::Parquet,
        _ => Extension::Unknown,
    }
}

/// Whether the name says tab-separated.
pub(super) fn is_tsv(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    [".tsv", ".tsv.gz", ".tsv.zst", ".tsv.zstd"].iter().any(|end| name.ends_with(end))
}

/// The format of a file, or why it has none that is known.
pub(super) fn format(head: &[u8], path: Option<&Path>) -> Result<Format, &'static str> {
    if head.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    if let Some(what) = foreign(head) {
        return Err(what);
    }
    let extension = path.map_or(Extension::Unknown, extension);
    let json = json_format(head);
    match (json, extension) {
        (Some(format), _) => Ok(format),
        (None, Extension::JsonLines) => Ok(Format::Native),
        (None, Extension::Csv) => Ok(Format::Csv),
        (None, Extension::Parquet) => Ok(Format::Parquet),
        (None, Extension::Text) => Ok(Format::Text),
        (None, Extension::Json) if matches!(head.trim_ascii(), b"" | b"[]") => Ok(Format::Native),
        (None, Extension::Json) => Err("JSON without the fields of a transcript"),
        (None, Extension::Markdown) if has_labels(head) => Ok(Format::Text),
        (None, Extension::Markdown) => Err("text without lines that begin with `User:` or `Assistant:`"),
        (None, Extension::Unknown) if has_labels(head) => Ok(Format::Text),
        (None, Extension::Unknown) if has_columns(head) => Ok(Format::Csv),
        (None, Extension::Unknown) => Err("content of no format known here"),
    }
}

/// Files that are certainly something else, and what.
pub(super) fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [b'P', b'K', 3, 4, ..] => Some("a zip archive (unpack it first)"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16 text (convert it to UTF-8 first)"),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("a file packed twice (unpack it once first)"),
        _ => None,
    }
}

/// How the records of a JSON file follow one another.
pub(super) fn shape(head: &[u8], path: Option<&Path>) -> Shape {
    if path.is_some_and(|p| extension(p) == Extension::JsonLines) {
        return Shape::Lines;
    }
    let head = head.trim_ascii_start();
    match head.first() {
        Some(b'[') => Shape::Values,
        Some(b'{') if is_spread(head) => Shape::Values,
        _ => Shape::Lines,
    }
}

/// Whether the first object goes on past its first line, and is not a line cut off.
fn is_spread(head: &[u8]) -> bool {
    let Some(end) = head.iter().position(|&b| b == b'\n') else {
        return false;
    };
    let (first, rest) = head.split_at(end);
    // No string goes on past its line.
    if first_object(first) != Piece::Open {
        return false;
    }
    let next = rest.split(|&b| b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty()).unwrap_or_default();
    let is_record = next.starts_with(b"{") && first_object(next) == Piece::Ends(next.len() - 1);
    !is_record || matches!(first_object(head), Piece::Ends(_))
}

/// The JSON format whose fields the first record has.
fn json_format(head: &[u8]) -> Option<Format> {
    let keys = first_keys(head);
    let has = |name: &str| keys.iter().any(|k| k == name);
    if has("mapping") {
        Some(Format::ChatGpt)
    } else if has("chat_messages") {
        Some(Format::Claude)
    } else if has("conversations") {
        Some(Format::ShareGpt)
    } else if has("conversation") {
        Some(Format::WildChat)
    } else if has("session_id") || has("started_at") || (has("messages") && has("user_id")) {
        Some(Format::Native)
    } else if has("messages") {
        Some(Format::OpenAi)
    } else {
        None
    }
}

/// The keys of the first object, as far as `head` goes.
fn first_keys(head: &[u8]) -> Vec<String> {
    let text = head.trim_ascii_start();
    let text = text.strip_prefix(b"[").unwrap_or(text).trim_ascii_start();
    let mut keys = Vec::new();
    if !text.starts_with(b"{") {
        return keys;
    }
    let (mut depth, mut at) = (0_u32, 0);
    while at < text.len() {
        match text[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => {
                let end = string_end(text, at + 1);
                let is_key = text.get(end + 1..).is_some_and(|t| t.trim_ascii_start().starts_with(b":"));
                if depth == 1 && is_key {
                    keys.push(String::from_utf8_lossy(&text[at + 1..end]).into_owned());
                }
                at = end;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        at += 1;
    }
    keys
}

/// The index of the quote that ends a string, or the end of the text.
fn string_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            b'\\' => at += 1,
            b'"' => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Whether two lines, of a user and of an assistant or so, begin as plain text transcripts do.
fn has_labels(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).split(['\n', '\r']).filter(|line| text::label(line).is_some()).take(2).count() == 2
}

/// Whether the first line names columns of a CSV transcript.
fn has_columns(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let names: Vec<String> = line.split([',', ';', '\t']).map(csv::column_name).collect();
    let any = |known: &[&str]| names.iter().any(|n| known.contains(&n.as_str()));
    any(csv::ROLE_NAMES) && any(csv::CONTENT_NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_keys_of_the_first_object_only() {
        let head = br#" [ {"a\"b": {"x": 1}, "c": "d:", "e" : [{"f":1}]}, {"g": 1}"#;
        assert_eq!(first_keys(head), [r#"a\"b"#, "c", "e"]);
        assert_eq!(first_keys(br#"{"cut of"#), Vec::<String>::new());
        assert_eq!(first_keys(b"]}"), Vec::<String>::new());
    }

    #[test]
    fn looks_through_packing_in_names() {
        assert_eq!(extension(Path::new("a/b.JSONL.gz")), Extension::JsonLines);
        assert_eq!(extension(Path::new("b.csv.zst")), Extension::Csv);
        assert_eq!(extension(Path::new("notes")), Extension::Unknown);
    }

    #[test]
    fn tells_lines_from_lists() {
        assert_eq!(shape(b"\n [{\"a\":1}]", None), Shape::Values);
        assert_eq!(shape(b"{\n \"a\":1}", None), Shape::Values);
        assert_eq!(shape(b"{\"a\":1}\n{}", None), Shape::Lines);
        assert_eq!(shape(b"{\"a\":[\n{\"b\":\"\\n\"}\n]}", None), Shape::Values);
        assert_eq!(shape(b"{\"a\":[\n{\"b\":1},\n{", None), Shape::Values);
        assert_eq!(shape(b"{\"a\":[\n{\"b\":1}\n{\"b\":1}\n", None), Shape::Lines);
        assert_eq!(shape(b"{\"a\":\"\n{\"b\":\"1\"}", None), Shape::Lines);
        assert_eq!(shape(b"[", Some(Path::new("a.jsonl"))), Shape::Lines);
    }
}
