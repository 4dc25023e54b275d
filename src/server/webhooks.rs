//! Alarms that are sent to where people are called: signed as *Standard Webhooks* 1.0 says, tried until they are taken, at least once.
//!
//! How far each webhook came is kept in the store: what was raised while it could not be reached, or while this server was down, is
//! sent afterwards, in order. Nothing that was said goes along, nor toward whom it is: users' words for people are names, too. In builds with
//! the feature `outbound` alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::App;
use super::followed::{Followed, RELOAD_AFTER, read_text};
use super::front::check_id;
use crate::config::from_toml;
use crate::verdict::Level;

#[cfg(feature = "outbound")]
mod sender;
#[cfg(not(feature = "outbound"))]
#[path = "webhooks/no_sender.rs"]
mod sender;

use sender::Sender;

/// Webhooks of one file.
const WEBHOOKS_MAX: usize = 16;
/// Characters of a secret.
const SECRET_CHARS_MAX: usize = 256;

/// Where alarms are sent.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookSettings {
    /// How far it came is kept under this name: another name begins with the next alarm.
    name: String,
    url: String,
    /// `whsec_` and a secret of 24 to 64 bytes in base64.
    secret: String,
    /// From this level on.
    #[serde(default = "review")]
    level_min: Level,
}

fn review() -> Level {
    Level::Review
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("WebhookSettings").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The file: `[[webhooks]]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    webhooks: Vec<WebhookSettings>,
}

/// Why webhooks cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {found}; hint: [[webhooks]] with name, url, secret (whsec_ and `openssl rand -base64 32`) and level_min", .file.display())]
pub struct WebhookError {
    file: PathBuf,
    found: String,
}

/// The webhooks of a file, as the file has them.
pub(super) struct Webhooks {
    file: PathBuf,
    senders: Followed<Senders>,
}

type Senders = Arc<Vec<Arc<Sender>>>;

impl Webhooks {
    /// # Errors
    /// When the file cannot be read, has none, or one of them cannot be used. While the server runs, they may all go.
    pub fn new(file: PathBuf) -> Result<Self, WebhookError> {
        let some = || match senders(&file)? {
            none if none.is_empty() => Err(WebhookError { file: file.clone(), found: "there is none".into() }),
            some => Ok(some),
        };
        let senders = Followed::new("the file of webhooks", vec![file.clone()], some)?;
        Ok(Self { file, senders })
    }

    /// Sends what was raised and is, to those that stand in the file, until the server stops.
    pub async fn run(self, app: Arc<App>) {
        let mut stopping = app.stopping.subscribe();
        loop {
            let senders = self.current();
            let mut running: JoinSet<()> = senders.iter().map(|sender| sender.clone().run(app.clone())).collect();
            tokio::select! {
                // What was on its way may be sent twice: nobody knows whether it was taken.
                () = self.changed(&senders) => running.shutdown().await,
                () = stopped(&mut stopping) => {
                    while running.join_next().await.is_some() {}
                    return;
                }
            }
        }
    }

    /// As the file has them now; see [`Followed::current`].
    fn current(&self) -> Senders {
        self.senders.current(|_| senders(&self.file))
    }

    /// Until the file has others.
    async fn changed(&self, senders: &Senders) {
        while Arc::ptr_eq(senders, &self.current()) {
            tokio::time::sleep(RELOAD_AFTER).await;
        }
    }
}

/// Resolves when the server stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Whoever would say so is gone, too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn senders(file: &Path) -> Result<Senders, WebhookError> {
    let told = |found: String| WebhookError { file: file.to_owned(), found };
    let text = read_text(file).map_err(|error| told(error.to_string()))?;
    let sender = |settings: &WebhookSettings| Sender::new(settings).map(Arc::new).map_err(told);
    webhooks(file, &text)?.iter().map(sender).collect::<Result<Vec<_>, _>>().map(Arc::new)
}

/// Reads a file's text.
fn webhooks(file: &Path, text: &str) -> Result<Vec<WebhookSettings>, WebhookError> {
    let told = |found: String| WebhookError { file: file.to_owned(), found };
    let File { webhooks } = from_toml(text).map_err(|error| told(error.to_string()))?;
    if webhooks.len() > WEBHOOKS_MAX {
        return Err(told(format!("{} webhooks, the limit is {WEBHOOKS_MAX}", webhooks.len())));
    }
    for (number, webhook) in webhooks.iter().enumerate() {
        check_id("a webhook's name", &webhook.name).map_err(|problem| told(problem.detail))?;
        if webhooks[..number].iter().any(|other| other.name == webhook.name) {
            return Err(told(format!("two webhooks are called {}", webhook.name)));
        }
        if !webhook.secret.starts_with("whsec_") || webhook.secret.len() > SECRET_CHARS_MAX {
            return Err(told(format!("the secret of {} is none", webhook.name)));
        }
    }
    Ok(webhooks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[webhooks]]\nname = \"pager\"\nurl = \"https://pager.example/x\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";

    #[test]
    fn a_file_is_read_and_what_is_wrong_is_told() {
        let read = |text: &str| webhooks(Path::new("hooks.toml"), text);
        assert_eq!(read(ONE).unwrap()[0].level_min, Level::Review);
        let two = ONE.to_owned() + &ONE.replace("pager", "other") + "level_min = \"urgent\"\n";
        assert_eq!(read(&two).unwrap()[1].level_min, Level::Urgent);
        assert_eq!(read("").unwrap().len(), 0);
        let many: String = (0..17).map(|number| ONE.replace("pager", &format!("pager{number}"))).collect();
        assert!(read(&many).unwrap_err().to_string().contains("17 webhooks"));
        for (text, told) in [
            (ONE.to_owned() + ONE, "two webhooks"),
            (ONE.replace("whsec_", ""), "secret of pager"),
            (ONE.replace("\"pager\"", "\"\""), "0 characters"),
            (ONE.to_owned() + "colour = 1", "colour"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("hooks.toml") && !error.contains("MfKQ"), "{error}");
        }
    }
}
