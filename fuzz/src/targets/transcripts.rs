//! Transcripts: every format, packed or not, told by itself or named.

use std::path::Path;

use throughline::transcript::History;
use throughline::transcript::read::{Format, Limits, Source, load_stream};

/// Names of which some tell a format.
const NAMES: [&str; 4] = ["x", "x.jsonl", "x.tsv", "conversations.json"];

/// The last byte says how the others are read. The books add up, and everything that was counted can be read back.
pub fn transcripts(data: &[u8]) {
    let Some((&how, bytes)) = data.split_last() else { return };
    let how = usize::from(how);
    let limits = if how & 16 == 0 { large() } else { small() };
    let source = Source { format: Format::ALL.get(how % 16).copied(), limits, ..Source::default() };
    let Ok(corpus) = load_stream(Path::new(NAMES[how >> 5 & 3]), bytes, &source, &mut |_| {}) else { return };
    let summary = corpus.summary();
    assert_eq!(summary.records, summary.records_read + summary.left_out, "{summary:?}");
    let read = |index| corpus.history(index).expect("a history that was counted");
    let histories: Vec<History> = (0..corpus.users().len()).map(read).collect();
    assert_eq!(summary.sessions, histories.iter().map(|history| history.sessions.len() as u64).sum::<u64>());
    assert_eq!(summary.messages, histories.iter().map(|history| history.message_count() as u64).sum::<u64>());
    for problem in corpus.problems() {
        assert!(!problem.to_string().is_empty());
    }
}

/// Enough for whatever is fed, but for what is packed by the thousand.
fn large() -> Limits {
    Limits { unpacked_bytes_max: 64 << 20, spool_memory_bytes_max: 1 << 20, ..Limits::default() }
}

fn small() -> Limits {
    Limits {
        record_bytes_max: 300,
        message_bytes_max: 40,
        messages_per_session_max: 3,
        sessions_per_user_max: 3,
        users_max: 3,
        id_bytes_max: 8,
        spool_memory_bytes_max: 64,
        unpacked_bytes_max: 4_000,
        ..Limits::default()
    }
}
