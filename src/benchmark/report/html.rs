//! One self-contained page: no script, no network, nothing but what stands in it.

use std::io::{self, Write};

use askama::Template;

use super::plot::{self, Plot};
use super::{NOTICE, Of, Part, Table, parts, split_text};
use crate::benchmark::Benchmark;
use crate::benchmark::evaluate::SetReport;

#[derive(Template)]
#[template(path = "benchmark.html", config = "src/benchmark/askama.toml")]
struct Page<'a> {
    benchmark: &'a Benchmark,
    notice: &'static str,
}

/// Tables and drawings under one head, with a legend.
struct Group {
    title: String,
    tables: Vec<Table>,
    plots: Vec<Plot>,
    /// Style and name of every line.
    legend: Vec<(usize, String)>,
}

impl Page<'_> {
    fn groups(&self, set: &SetReport) -> Vec<Group> {
        parts(set).into_iter().map(group).collect()
    }

    /// Names of sets, for the title.
    fn names(&self) -> String {
        self.benchmark.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn split(&self) -> String {
        split_text(&self.benchmark.manifest.settings)
    }

    fn commit(&self) -> String {
        let binary = &self.benchmark.manifest.binary;
        let dirty = match binary.git_dirty {
            Some(true) => ", with changes",
            Some(false) => ", without changes",
            None => "",
        };
        binary.git_commit.as_ref().map_or("not known to this build".into(), |commit| format!("{commit}{dirty}"))
    }
}

fn group(part: Part) -> Group {
    let plots = match part.of {
        Of::Arc(arc) => plot::of_arc(arc),
        Of::Target(target) => plot::of_target(target),
        Of::Reviews | Of::Toward => Vec::new(),
    };
    let mut legend: Vec<(usize, String)> = Vec::new();
    for line in plots.iter().flat_map(|plot| &plot.lines) {
        if !legend.iter().any(|(style, _)| *style == line.style) {
            legend.push((line.style, line.name.clone()));
        }
    }
    legend.sort();
    Group { title: part.title, tables: part.tables, plots, legend }
}

/// The page.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, benchmark: &Benchmark) -> io::Result<()> {
    Page { benchmark, notice: NOTICE }.write_into(out)
}
