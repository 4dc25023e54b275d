//! House rules that no compiler checks, with a ratchet.
//!
//! Sources are read as tokens, so that text in strings and comments never counts. A violation that
//! stands in `tests/tidy.ratchet.toml` passes as long as it has exactly the size recorded there: it
//! may not grow, and one that shrank must be recorded smaller. `TIDY_LOWER=1 cargo test --test tidy`
//! rewrites the file, downwards only. What each rule is for stands in CONTRIBUTING.md.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use ratchet::{RATCHET, Ratchet, compare, read_ratchet, write_ratchet};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;
const PARAMETERS_MAX: usize = 5;
const WEIGHT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a room may use of the others; `cli` and the binary may use everything.
const EDGES: &[(&str, &[&str])] = &[
    ("transcript", &[]),
    ("window", &[]),
    ("scoring", &["transcript"]),
    ("arc", &["scoring"]),
    ("target", &["arc", "scoring"]),
    ("config", &[]),
    ("verdict", &["arc", "config"]),
    ("guard", &["config", "transcript"]),
    ("engine", &["guard::Tokenize"]),
    ("scorer", &["arc", "engine", "guard", "scoring", "target", "transcript", "verdict", "window"]),
    ("report", &["arc", "scorer", "scoring", "transcript", "verdict"]),
    ("benchmark", &["arc", "config", "scoring", "target", "transcript", "verdict"]),
    ("store", &["arc", "scoring", "transcript", "verdict"]),
    (
        "server",
        &["arc", "config", "engine::ModelInfo", "scorer", "scoring", "store", "target", "transcript", "verdict"],
    ),
];

/// Crates that only some rooms may name. What stands here for no room is for the binary alone.
const HOMES: &[(&str, &[&str])] = &[
    ("candle_core", &["engine"]),
    ("candle_nn", &["engine"]),
    ("candle_transformers", &["engine"]),
    ("half", &["engine"]),
    ("hf_hub", &["engine"]),
    ("memmap2", &["engine"]),
    ("rayon", &["engine"]),
    ("safetensors", &["engine"]),
    ("tokenizers", &["engine"]),
    ("minijinja", &["guard"]),
    ("minijinja_contrib", &["guard"]),
    ("csv_core", &["transcript"]),
    ("parquet", &["transcript"]),
    ("askama", &["benchmark", "report"]),
    ("regex", &["benchmark"]),
    ("rusqlite", &["store"]),
    ("tokio_postgres", &["store"]),
    ("tokio_postgres_rustls", &["store"]),
    ("rustls_native_certs", &["store"]),
    ("chacha20poly1305", &["store"]),
    ("hmac", &["server", "store"]),
    ("axum", &["server"]),
    ("base64", &["server"]),
    ("futures_util", &["server"]),
    ("governor", &["server"]),
    ("hyper", &["server"]),
    ("hyper_util", &["server"]),
    ("lru", &["server"]),
    ("prometheus_client", &["server"]),
    ("reqwest", &["server"]),
    ("rustls", &["server", "store"]),
    ("tokio", &["server", "store"]),
    ("tokio_rustls", &["server"]),
    ("tracing", &["server"]),
    ("utoipa", &["server"]),
    ("tracing_subscriber", &[]),
    ("anyhow", &[]),
    ("clap", &[]),
    ("clap_complete", &[]),
    ("indicatif", &[]),
];

const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];
const PRINTS: &[&str] = &["print", "println", "eprint", "eprintln"];
/// Paths of one person's machine.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("C:\\Us", "ers"),
];
const TEXT_FOLDERS: &[&str] = &["src", "tests", "fuzz", "benches", "examples", "models", "datasets", ".ci", ".github"];
const TEXT_ENDINGS: &[&str] = &["rs", "py", "md", "toml", "yml", "html", "sh", "run"];

/// One violation: `amount` is what the ratchet holds still.
#[derive(Debug, PartialEq)]
struct Finding {
    rule: &'static str,
    place: String,
    amount: u64,
    says: String,
}

struct Source {
    /// From the root, with `/` between.
    path: String,
    text: String,
}

impl Source {
    /// The room of a library source; `None` for tests, the binary and the crate root.
    fn room(&self) -> Option<&str> {
        let room = self.path.strip_prefix("src/")?.split('/').next()?;
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (!matches!(room, "cli" | "main" | "lib")).then_some(room)
    }

    /// How many `super`s lead to the crate root.
    fn depth(&self) -> usize {
        let inner = self.path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        if inner == "lib" { 0 } else { inner.split('/').count() }
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn check(source: &Source) -> Vec<Finding> {
    let mut out = size_of_file(source).into_iter().collect::<Vec<_>>();
    let stream: TokenStream = match source.text.parse() {
        Ok(stream) => stream,
        Err(error) => panic!("{}: not Rust: {error}", source.path),
    };
    each_level(stream.clone(), &mut |level| functions(source, level, &mut out));
    counted("unfinished", source, stream.clone(), &mut out, |level, i| is_macro(level, i, UNFINISHED));
    if source.is_test() {
        return out;
    }
    let shipped = without_tests(stream);
    counted("unwraps", source, shipped.clone(), &mut out, is_unwrap);
    if let Some(room) = source.room() {
        counted("prints", source, shipped.clone(), &mut out, |level, i| is_macro(level, i, PRINTS));
        counted("environment", source, shipped.clone(), &mut out, is_environment);
        counted("foreign_crates", source, shipped.clone(), &mut out, |level, i| is_foreign(level, i, room));
        edges(source, room, shipped, &mut out);
    }
    out
}

fn size_of_file(source: &Source) -> Option<Finding> {
    let lines = source.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| Finding {
        rule: "file_lines",
        place: source.path.clone(),
        amount: lines as u64,
        says: format!("{lines} lines, limit {FILE_LINES_MAX}; hint: move a part into a file of its own"),
    })
}

/// Calls `see` with the tokens of every nesting level.
fn each_level(stream: TokenStream, see: &mut dyn FnMut(&[TokenTree])) {
    let level: Vec<TokenTree> = stream.into_iter().collect();
    see(&level);
    for token in level {
        if let TokenTree::Group(group) = token {
            each_level(group.stream(), see);
        }
    }
}

/// The tokens without items under `#[cfg(test)]` or `#[test]`.
fn without_tests(stream: TokenStream) -> TokenStream {
    let mut out = Vec::new();
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is_punct(Some(&token), '#') && tokens.peek().is_some_and(is_test_attribute) {
            tokens.find(|t| {
                is_punct(Some(t), ';') || matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace)
            });
            continue;
        }
        out.push(match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), without_tests(group.stream()));
                inner.set_span(group.span());
                TokenTree::Group(inner)
            }
            other => other,
        });
    }
    out.into_iter().collect()
}

fn is_test_attribute(token: &TokenTree) -> bool {
    let text = token.to_string().replace(' ', "");
    text == "[test]" || text == "[cfg(test)]" || text.starts_with("[cfg(all(test,")
}

fn is_punct(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == mark)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    matches!(token, Some(TokenTree::Ident(_))).then(|| token.map(TokenTree::to_string)).flatten()
}

fn is_macro(level: &[TokenTree], i: usize, names: &[&str]) -> bool {
    ident(level.get(i)).is_some_and(|name| names.contains(&name.as_str()))
        && is_punct(level.get(i + 1), '!')
        && matches!(level.get(i + 2), Some(TokenTree::Group(_)))
}

/// `.unwrap()` and `.expect("…")`; a method of that name with another argument is something else.
fn is_unwrap(level: &[TokenTree], i: usize) -> bool {
    let Some(TokenTree::Group(arguments)) = level.get(i + 1) else {
        return false;
    };
    let before = i.checked_sub(1).and_then(|b| level.get(b));
    let first = arguments.stream().into_iter().next();
    is_punct(before, '.')
        && match ident(level.get(i)).as_deref() {
            Some("unwrap") => first.is_none(),
            Some("expect") => matches!(first, Some(TokenTree::Literal(_))) || is_punct(first.as_ref(), '&'),
            _ => false,
        }
}

/// `env::var` and its kin, deep in the library.
fn is_environment(level: &[TokenTree], i: usize) -> bool {
    let reads = ["var", "var_os", "vars", "vars_os", "args", "args_os"];
    ident(level.get(i)).as_deref() == Some("env")
        && names_after(level, i + 1).iter().any(|(name, _)| reads.contains(&name.as_str()))
}

fn is_foreign(level: &[TokenTree], i: usize, room: &str) -> bool {
    let Some(name) = ident(level.get(i)) else {
        return false;
    };
    let Some((_, rooms)) = HOMES.iter().find(|(home, _)| *home == name) else {
        return false;
    };
    let used = i.checked_sub(1).is_some_and(|b| ident(level.get(b)).as_deref() == Some("use"));
    !rooms.contains(&room) && (used || !names_after(level, i + 1).is_empty())
}

/// One finding for a file, with the lines where `is` holds.
fn counted(
    rule: &'static str,
    source: &Source,
    stream: TokenStream,
    out: &mut Vec<Finding>,
    is: impl Fn(&[TokenTree], usize) -> bool,
) {
    let mut lines = Vec::new();
    each_level(stream, &mut |level| {
        let hits = (0..level.len()).filter(|&i| is(level, i));
        lines.extend(hits.map(|i| level[i].span().start().line));
    });
    if !lines.is_empty() {
        lines.sort_unstable();
        let says = format!("{} of them, at line {lines:?}", lines.len());
        out.push(Finding { rule, place: source.path.clone(), amount: lines.len() as u64, says });
    }
}

/// Functions of this level that are too long or take too much.
fn functions(source: &Source, level: &[TokenTree], out: &mut Vec<Finding>) {
    for i in 0..level.len() {
        let (Some("fn"), Some(name)) = (ident(level.get(i)).as_deref(), ident(level.get(i + 1))) else {
            continue;
        };
        let place = format!("{}::{name}", source.path);
        // The first parenthesis after the name, unless it stands within `<F: Fn(u8)>`.
        let at = outside_angles(&level[i + 2..])
            .find(|(_, t)| matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Parenthesis));
        let Some((offset, TokenTree::Group(parameters))) = at else {
            continue;
        };
        let count = parameter_count(parameters.stream());
        if count > PARAMETERS_MAX {
            let says = format!("{count} parameters, limit {PARAMETERS_MAX}; hint: pass a settings struct");
            out.push(Finding { rule: "parameters", place: place.clone(), amount: count as u64, says });
        }
        let ends = |t: &&TokenTree| {
            is_punct(Some(t), ';') || matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace)
        };
        let Some(TokenTree::Group(body)) = level[i + 2 + offset..].iter().find(ends) else {
            continue;
        };
        let lines = body.span_close().end().line + 1 - level[i].span().start().line;
        if lines > FUNCTION_LINES_MAX {
            let says = format!("{lines} lines, limit {FUNCTION_LINES_MAX}; hint: give a part of it a name");
            out.push(Finding { rule: "function_lines", place, amount: lines as u64, says });
        }
    }
}

/// The tokens that no `<…>` encloses, with their index; `->` and `=>` close nothing.
fn outside_angles(level: &[TokenTree]) -> impl Iterator<Item = (usize, &TokenTree)> {
    let mut depth = 0_usize;
    level.iter().enumerate().filter(move |(i, token)| {
        let arrow = *i > 0 && (is_punct(level.get(i - 1), '-') || is_punct(level.get(i - 1), '='));
        if is_punct(Some(token), '<') {
            depth += 1;
        } else if is_punct(Some(token), '>') && !arrow {
            depth = depth.saturating_sub(1);
            return false;
        }
        depth == 0
    })
}

/// Parameters besides `self`.
fn parameter_count(stream: TokenStream) -> usize {
    let level: Vec<TokenTree> = stream.into_iter().collect();
    let marks: Vec<bool> = outside_angles(&level).map(|(_, t)| is_punct(Some(t), ',')).collect();
    let trailing = is_punct(level.last(), ',');
    let all = if level.is_empty() { 0 } else { marks.iter().filter(|m| **m).count() + usize::from(!trailing) };
    let has_self = level.iter().take_while(|t| !is_punct(Some(t), ',')).any(|t| t.to_string() == "self");
    all - usize::from(has_self)
}

/// The names that follow `::`, each with its own tokens after it; several for `::{…}`.
fn names_after(level: &[TokenTree], at: usize) -> Vec<(String, Vec<TokenTree>)> {
    if !is_punct(level.get(at), ':') || !is_punct(level.get(at + 1), ':') {
        return Vec::new();
    }
    match level.get(at + 2) {
        Some(TokenTree::Group(group)) => {
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            let pieces = inner.split(|t| is_punct(Some(t), ',')).filter(|piece| !piece.is_empty());
            pieces.filter_map(|piece| Some((ident(piece.first())?, piece[1..].to_vec()))).collect()
        }
        token => ident(token).map(|name| (name, level[at + 3..].to_vec())).into_iter().collect(),
    }
}

/// What stands directly under the crate root in a path that begins at `i`: `crate::…`, or `super`s enough.
fn under_root(level: &[TokenTree], i: usize, depth: usize) -> Vec<(String, Vec<TokenTree>)> {
    let begins = !(i >= 2 && is_punct(level.get(i - 1), ':') && is_punct(level.get(i - 2), ':'));
    match ident(level.get(i)).as_deref() {
        Some("crate") if begins => names_after(level, i + 1),
        Some("super") if begins && depth > 0 => {
            let mut tails = names_after(level, i + 1);
            for _ in 1..depth {
                let deeper = tails.into_iter().filter(|(name, _)| name == "super");
                tails = deeper.flat_map(|(_, rest)| names_after(&rest, 0)).collect();
            }
            tails
        }
        _ => Vec::new(),
    }
}

/// Paths from one room into another that the table does not allow.
fn edges(source: &Source, room: &str, stream: TokenStream, out: &mut Vec<Finding>) {
    let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == room) else {
        let says = format!("room `{room}` has no row; hint: add it to EDGES and to the map in src/lib.rs");
        return out.push(Finding { rule: "edges", place: source.path.clone(), amount: 1, says });
    };
    let mut found: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    each_level(stream, &mut |level| {
        for i in 0..level.len() {
            for (to, rest) in under_root(level, i, source.depth()) {
                let known = to == "cli" || EDGES.iter().any(|(name, _)| *name == to);
                if !known || to == room || allowed.contains(&to.as_str()) {
                    continue;
                }
                let items = names_after(&rest, 0);
                let passes = |item: &str| allowed.contains(&format!("{to}::{item}").as_str());
                if items.is_empty() || !items.iter().all(|(item, _)| passes(item)) {
                    found.entry(to).or_default().push(level[i].span().start().line);
                }
            }
        }
    });
    for (to, lines) in found {
        let says = format!("`{room}` may not use `{to}` (line {lines:?}); it may use {allowed:?}");
        out.push(Finding {
            rule: "edges",
            place: format!("{} to {to}", source.path),
            amount: lines.len() as u64,
            says,
        });
    }
}

fn machine_paths(source: &Source) -> Option<Finding> {
    let hits = source.text.lines().filter(|line| MACHINE_PATHS.iter().any(|path| line.contains(path))).count();
    let says = format!("{hits} lines name a path of one machine");
    (hits > 0).then(|| Finding { rule: "machine_paths", place: source.path.clone(), amount: hits as u64, says })
}

fn weights(sizes: &[(String, u64)]) -> Option<Finding> {
    let bytes: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let says = format!("{bytes} bytes of weights, limit {WEIGHT_BYTES_MAX}: {sizes:?}");
    (bytes > WEIGHT_BYTES_MAX).then(|| Finding { rule: "weights", place: "models".into(), amount: bytes, says })
}

/// The package, as the runner names it: the sources may have moved since they were compiled.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// Files under a folder, sorted; not what training leaves behind or Python caches.
fn files_under(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "runs" | "__pycache__" | "target" | "corpus") {
            files_under(&path, out);
        } else if path.is_file() {
            out.push(path);
        }
    }
}

fn ending(path: &Path) -> String {
    path.extension().or(path.file_name()).unwrap_or_default().to_string_lossy().into_owned()
}

fn from_root(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// Every finding of the repository as it stands.
fn findings() -> Vec<Finding> {
    let mut paths: Vec<PathBuf> = Vec::new();
    TEXT_FOLDERS.iter().for_each(|folder| files_under(&root().join(folder), &mut paths));
    let top = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| path.is_file()));
    let mut out = Vec::new();
    let mut weight_sizes = Vec::new();
    for path in paths {
        let kind = ending(&path);
        if matches!(kind.as_str(), "gguf" | "safetensors" | "bin") && path.starts_with(root().join("models")) {
            weight_sizes.push((from_root(&path), fs::metadata(&path).unwrap().len()));
        }
        if TEXT_ENDINGS.contains(&kind.as_str()) {
            let source = Source { path: from_root(&path), text: fs::read_to_string(&path).unwrap() };
            out.extend(machine_paths(&source));
            match kind.as_str() {
                "rs" => out.extend(check(&source)),
                "py" => out.extend(size_of_file(&source)),
                _ => {}
            }
        }
    }
    out.extend(weights(&weight_sizes));
    out
}

#[test]
fn the_house_rules_hold() {
    let path = root().join(RATCHET);
    let text = fs::read_to_string(&path).unwrap();
    let head: String = text.lines().take_while(|line| line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let (wrong, lowered) = compare(&findings(), &read_ratchet(&text));
    if std::env::var_os("TIDY_LOWER").is_some() {
        fs::write(&path, write_ratchet(&head, &lowered)).unwrap();
    }
    assert!(wrong.is_empty(), "{} against the house rules:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_map_names_every_room() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (room, _) in EDGES {
        assert!(map.contains(&format!("//! | [`{room}`] |")), "{room} is missing from the map in src/lib.rs");
    }
}

#[path = "tidy/ratchet.rs"]
mod ratchet;
#[path = "tidy/rules.rs"]
mod rules;
