//! The formats, by name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A transcript format. Field names stand in the docs of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `native`, JSON lines, one session a line:
    /// `{"user_id", "session_id", "started_at", "messages": [{"role", "content", "timestamp"}]}`.
    Native,
    /// `openai`, JSON lines of chat `messages`, as sent to a chat API or used in fine-tuning.
    OpenAi,
    /// `chatgpt`, the `conversations.json` of a ChatGPT data export: the active branch.
    ChatGpt,
    /// `claude`, the `conversations.json` of a Claude data export.
    Claude,
    /// `sharegpt`, `{"conversations": [{"from", "value"}]}`, a JSON list or lines.
    ShareGpt,
    /// `wildchat`, also `lmsys`: `{"conversation": [{"role", "content"}]}` with a hashed user.
    WildChat,
    /// `parquet`, any of `sharegpt`, `wildchat` and `openai` in Apache Parquet (feature `parquet`).
    Parquet,
    /// `csv`, a header line and one message a row. Columns are found by name: user (`user`,
    /// `user_id`, `userid`, `author_id`, `customer_id`), session (`session`, `session_id`,
    /// `conversation`, `conversation_id`, `chat_id`, `thread_id`), role (`role`, `sender`, `from`,
    /// `author`, `speaker`), content (`content`, `text`, `message`, `body`, `value`), time
    /// (`timestamp`, `time`, `created_at`, `date`, `datetime`, `sent_at`).
    Csv,
    /// `text`, lines beginning with `User:` or `Assistant:`.
    Text,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 9] = [
        Format::Native,
        Format::OpenAi,
        Format::ChatGpt,
        Format::Claude,
        Format::ShareGpt,
        Format::WildChat,
        Format::Parquet,
        Format::Csv,
        Format::Text,
    ];

    /// The name as typed on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Native => "native",
            Format::OpenAi => "openai",
            Format::ChatGpt => "chatgpt",
            Format::Claude => "claude",
            Format::ShareGpt => "sharegpt",
            Format::WildChat => "wildchat",
            Format::Parquet => "parquet",
            Format::Csv => "csv",
            Format::Text => "text",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A name that is no format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no transcript format `{name}`; hint: one of native, openai, chatgpt, claude, sharegpt, wildchat, \
     parquet, csv, text"
)]
pub struct UnknownFormatName {
    pub name: String,
}

impl FromStr for Format {
    type Err = UnknownFormatName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name.trim().to_ascii_lowercase().as_str() {
            "native" | "jsonl" => Format::Native,
            "openai" => Format::OpenAi,
            "chatgpt" => Format::ChatGpt,
            "claude" => Format::Claude,
            "sharegpt" => Format::ShareGpt,
            "wildchat" | "lmsys" => Format::WildChat,
            "parquet" => Format::Parquet,
            "csv" | "tsv" => Format::Csv,
            "text" | "txt" => Format::Text,
            _ => {
                return Err(UnknownFormatName { name: name.chars().take(64).collect() });
            }
        })
    }
}
