//! Tables for people at a terminal.

use std::io::{self, Write};

use super::{NOTICE, Table, parts, split_text};
use crate::benchmark::Benchmark;

/// Writes all tables, and what was run.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, benchmark: &Benchmark) -> io::Result<()> {
    for set in &benchmark.sets {
        writeln!(out, "{}: {} examples, {} messages. {}", set.name, set.examples, set.messages, set.about)?;
        for (why, count) in &set.left_out {
            writeln!(out, "not judged: {count} {why}")?;
        }
        for one in parts(set).iter().flat_map(|part| &part.tables) {
            writeln!(out)?;
            table(out, one)?;
        }
        writeln!(out)?;
    }
    for model in &benchmark.manifest.models {
        let version = model.version.as_deref().unwrap_or("");
        let digest = model.sha256.get(..12).unwrap_or(&model.sha256);
        writeln!(out, "model {} {version} ({digest}), read by {}", model.name, model.reading)?;
    }
    let settings = &benchmark.manifest.settings;
    let intervals = match settings.samples {
        0 => "no intervals".to_owned(),
        samples => format!("95% intervals from {samples} bootstrap draws of clusters, seed {}", settings.seed),
    };
    writeln!(out, "split {}; {intervals}. {NOTICE}", split_text(settings))
}

fn table(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    let chars = |text: &String| text.chars().count();
    let width = |column: usize| {
        let cells = table.rows.iter().filter_map(|row| row.get(column)).map(chars);
        cells.chain([chars(&table.columns[column])]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
    writeln!(out, "{}", table.title)?;
    for row in std::iter::once(&table.columns).chain(&table.rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
