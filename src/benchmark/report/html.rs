//! One self-contained page: no script, no network, nothing but what stands in it.

use std::io::{self, Write};

use askama::Template;

use super::plot::{self, Plot};
use super::{NOTICE, Table, tables};
use crate::benchmark::Benchmark;
use crate::benchmark::evaluate::SetReport;

#[derive(Template)]
#[template(path = "benchmark.html", config = "src/benchmark/askama.toml")]
struct Page<'a> {
    benchmark: &'a Benchmark,
    notice: &'static str,
}

/// Drawings under one head, with a legend of their own.
struct Group {
    title: String,
    plots: Vec<Plot>,
    /// Style and name of every line.
    legend: Vec<(usize, String)>,
}

impl Page<'_> {
    fn tables(&self, set: &SetReport) -> Vec<Table> {
        tables(set)
    }

    fn groups(&self, set: &SetReport) -> Vec<Group> {
        let arcs = set.arcs.iter().map(|arc| (format!("{}, whole histories", arc.arc.as_str()), plot::of_arc(arc)));
        let targets = set.targets.iter().map(|target| (target.target.clone(), plot::of_target(target)));
        arcs.chain(targets).filter(|(_, plots)| !plots.is_empty()).map(|(title, plots)| group(title, plots)).collect()
    }

    /// Names of sets, for the title.
    fn names(&self) -> String {
        self.benchmark.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>().join(", ")
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

fn group(title: String, plots: Vec<Plot>) -> Group {
    let mut legend: Vec<(usize, String)> = Vec::new();
    for line in plots.iter().flat_map(|plot| &plot.lines) {
        if !legend.iter().any(|(style, _)| *style == line.style) {
            legend.push((line.style, line.name.clone()));
        }
    }
    legend.sort();
    Group { title, plots, legend }
}

/// The page.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut dyn Write, benchmark: &Benchmark) -> io::Result<()> {
    Page { benchmark, notice: NOTICE }.write_into(out)
}
