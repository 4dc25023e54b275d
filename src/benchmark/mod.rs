//! Judges detectors against labelled histories, so that two of them can be compared on equal terms.
//!
//! ```text
//! files → data::DataSet{examples, targets}  ┐
//! message scores → detector::Detector       ├→ evaluate → Benchmark → terminal · JSON · page
//! scores of other detectors (files)         ┘
//! ```
//!
//! The room sees scores, never a model: whoever calls it runs the engine, or reads a file that
//! `throughline score --output` wrote. Arcs are computed here from the messages' scores, by the same
//! rooms that `score` uses.

pub mod data;
pub mod detector;
pub mod evaluate;
pub mod manifest;
pub mod metrics;
pub mod report;
pub mod simulate;

pub use evaluate::Benchmark;
