//! Transcripts: what one person said to an assistant, over many sessions.
//!
//! The types every other room speaks ([`History`] → [`Session`] → [`Message`]) and, behind the
//! feature `readers`, one reader per file format ([`read`]). This room must not know models.
//!
//! Times are instants in UTC. A time written without a zone is read as UTC, so the zone of the
//! machine that reads a transcript never changes a result.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(feature = "readers")]
pub mod read;

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person whose history this is.
    User,
    /// The AI assistant.
    Assistant,
    /// Instructions of the operator, hidden nodes of an export.
    System,
    /// What a tool returned, or what was sent to it.
    Tool,
}

impl Role {
    /// The name as it stands in files and prompts.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Tool => "tool",
        }
    }
}

/// One message of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    /// The text. Parts that are not text leave a placeholder such as `[image]`.
    pub content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
}

/// One conversation of a user with an assistant, in the order in which it was held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub session_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    pub messages: Vec<Message>,
}

impl Session {
    /// When the session began: as stated, or the time of its first dated message.
    pub fn start(&self) -> Option<Timestamp> {
        self.started_at.or_else(|| self.messages.iter().find_map(|m| m.timestamp))
    }
}

/// Everything one user said to an assistant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub user_id: String,
    pub sessions: Vec<Session>,
}

impl History {
    /// Puts the sessions into the order of time; equal times are ordered by session id. Messages
    /// inside a session are left as they are.
    ///
    /// A session without any time stays behind the one before it, in front of the next where none
    /// before it has a time; where none has, all stay as they are. So only sessions that have times
    /// come out the same whatever order they were in.
    pub fn sort_sessions(&mut self) {
        let sessions = std::mem::take(&mut self.sessions);
        self.sessions = in_order_of_time([sessions]);
    }

    /// When a message was written, or else its session began.
    ///
    /// # Panics
    /// When there is no such session or message.
    pub fn time(&self, session: usize, message: usize) -> Option<Timestamp> {
        let held = &self.sessions[session];
        held.messages[message].timestamp.or_else(|| held.start())
    }

    /// Messages in all sessions.
    pub fn message_count(&self) -> usize {
        self.sessions.iter().map(|s| s.messages.len()).sum()
    }
}

/// The sessions of several runs, each in an order of its own, in the order of time: see
/// [`History::sort_sessions`]. Runs without any time come first; equal times with equal ids keep the
/// order of the runs.
fn in_order_of_time(runs: impl IntoIterator<Item = Vec<Session>>) -> Vec<Session> {
    /// A dated session with those that stay beside it, under its start and id.
    type Block = (Option<(Timestamp, String)>, Vec<Session>);
    let mut blocks: Vec<Block> = Vec::new();
    for run in runs {
        let mut block = Block::default();
        for session in run {
            let key = session.start().map(|start| (start, session.session_id.clone()));
            if key.is_some() {
                if block.0.is_some() {
                    blocks.push(std::mem::take(&mut block));
                }
                block.0 = key;
            }
            block.1.push(session);
        }
        blocks.push(block);
    }
    blocks.sort_by(|(a, _), (b, _)| a.cmp(b));
    blocks.into_iter().flat_map(|(_, sessions)| sessions).collect()
}
