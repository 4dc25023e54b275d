//! throughline reads the arc, not the message.
//!
//! It reads everything a user said to an AI assistant over weeks of sessions, in sliding windows,
//! with a Llama-architecture guard model, and says when a *targeted-harassment escalation* or a
//! *delusion reinforcement* is building, since which message, and on what evidence. Its output is
//! a signal for human review, never a diagnosis.
//!
//! # Map, in order of flow
//!
//! | room | holds | must not know |
//! |---|---|---|
//! | [`transcript`] | [`History`](transcript::History), sessions, messages; one reader per format | models |
//! | [`window`] | cuts a history into overlapping windows under a token budget, with carried evidence | IO, clock, tensors |
//! | [`guard`] | model families: prompts, categories, where the verdict is read | tensors |
//! | [`engine`] | weights, tokeniser, the Llama architecture: `cpu` in blocks of rows over the products of `kernels`, `model` in candle for GPUs; KV cache | histories |
//! | [`scoring`] | head logits → calibrated [`MessageScore`](scoring::MessageScore) | IO |
//! | [`target`] | the people a user speaks of, linked over sessions, and whom a message is about | IO, clock, tensors |
//! | [`arc`] | evidence over time: is an arc building, since when | IO, clock, tensors |
//! | [`verdict`] | an operator's [`Policy`](verdict::Policy) → level, recommendations, and the messages they rest on | IO |
//! | [`config`] | TOML that people write: errors that name the place | files |
//! | [`scorer`] | walks one history through the rooms above: whole, a message a time ([`Live`](scorer::Live)), or without some (`explain`); what several models say ([`Panel`](scorer::Panel)) | files, terminals |
//! | [`report`] | scores → JSON lines, a terminal summary, one self-contained HTML page | models |
//! | [`store`] | what is kept of users, sealed: messages with their scores, alarms, answers; in SQLite or PostgreSQL | models, HTTP |
//! | [`server`] | the sidecar: queue, one thread that owns the model, routes, tokens, counts | how a score comes about |
//! | [`benchmark`] | labelled histories, detectors' scores → figures with intervals, their report; what a policy would have done | models: it sees scores |
//! | `cli` (binary) | `args` as typed → `settings` resolved → one file per command | |
//!
//! ```text
//! transcript → History → Window{messages, carried} → token ids → engine → logits → MessageScore
//!   → arc::ArcState::step → verdict::Policy::judge → Verdict{level, mitigations, findings} → JSON · terminal · report
//!                                                                                         → store → alarm · HTTP answer
//! ```
//!
//! The rooms `window`, `scoring`, `target`, `arc` and `verdict` build with `--no-default-features`: they are
//! pure functions of their arguments.

pub mod arc;
#[cfg(feature = "benchmark")]
pub mod benchmark;
#[cfg(any(feature = "guard", feature = "policy"))]
pub mod config;
#[cfg(feature = "engine")]
pub mod engine;
#[cfg(feature = "guard")]
pub mod guard;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "engine")]
pub mod scorer;
pub mod scoring;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "store")]
pub mod store;
pub mod target;
pub mod transcript;
pub mod verdict;
pub mod window;
