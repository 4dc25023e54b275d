//! Sends alarms to one webhook.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, Url};
use serde_json::json;
use sha2::Sha256;
use tokio::sync::watch;

use super::{WebhookSettings, stopped};
use crate::server::App;
use crate::server::outbound::{address, client};
use crate::server::wire::AlarmOut;
use crate::store::Alarm;
use crate::verdict::Level;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// After the first time that it was not taken; then twice as long each time, up to the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// So often an alarm may be refused before those after it no longer wait for it: about 17 minutes.
const REFUSALS_MAX: u32 = 10;
/// How often alarms are looked for that another server raised.
const LOOK_AFTER: Duration = Duration::from_secs(15);
/// Bytes of a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// One webhook.
pub(super) struct Sender {
    name: String,
    url: Url,
    secret: Vec<u8>,
    level_min: Level,
    client: Client,
}

impl Sender {
    /// # Errors
    /// Naming what is wrong, without the secret.
    pub fn new(settings: &WebhookSettings) -> Result<Self, String> {
        let WebhookSettings { name, url, secret, level_min } = settings;
        let told = |found: String| format!("the webhook {name}: {found}");
        let url = address(url).map_err(|found| told(format!("its url {found}")))?;
        let secret = STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret));
        let secret = secret.ok().filter(|secret| SECRET_BYTES.contains(&secret.len()));
        let secret = secret.ok_or_else(|| told("its secret is no base64 of 24 to 64 bytes".into()))?;
        let client = client(&url, PATIENCE).map_err(told)?;
        Ok(Self { name: name.clone(), url, secret, level_min: *level_min, client })
    }

    /// Sends what was raised and is, until the server stops.
    pub async fn run(self: Arc<Self>, app: Arc<App>) {
        let (mut news, mut stopping) = (app.alarms.subscribe(), app.stopping.subscribe());
        loop {
            if let Err(problem) = self.catch_up(&app, &mut stopping).await {
                tracing::error!(webhook = self.name, detail = problem.detail, "alarms cannot be read");
            }
            tokio::select! {
                _ = news.recv() => {},
                () = tokio::time::sleep(LOOK_AFTER) => {},
                () = stopped(&mut stopping) => return,
            }
        }
    }

    /// Sends every alarm after the last that was taken, one after the other.
    async fn catch_up(
        &self,
        app: &Arc<App>,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), crate::server::Problem> {
        let name = self.name.clone();
        let mut after = app.store(move |store| store.webhook_begins(&name)).await?;
        let mut trying = Trying::default();
        loop {
            let alarms = app.store(move |store| store.alarms(after, false)).await?.alarms;
            if alarms.is_empty() {
                return Ok(());
            }
            for alarm in alarms {
                let id = alarm.id;
                if alarm.level >= self.level_min && !self.is_done_with(app, alarm, &mut trying).await {
                    tokio::select! {
                        () = tokio::time::sleep(trying.pause()) => {},
                        () = stopped(stopping) => return Ok(()),
                    }
                    // It is read again: by now its user may be erased, and nothing of them goes out any more.
                    break;
                }
                let name = self.name.clone();
                app.store(move |store| store.webhook_came_to(&name, id)).await?;
                after = id;
            }
        }
    }

    /// Sends an alarm once: whether it was taken, or was refused so often that those after it need not wait.
    async fn is_done_with(&self, app: &App, alarm: Alarm, trying: &mut Trying) -> bool {
        let id = alarm.id;
        trying.begin(id);
        let raised = alarm.raised_at.unwrap_or(Timestamp::UNIX_EPOCH);
        let body = json!({"type": "alarm.raised", "timestamp": raised, "data": AlarmOut::from(alarm)}).to_string();
        let Err(Untaken { found, is_refusal }) = self.try_once(id, &body).await else {
            app.metrics.sent("taken");
            return true;
        };
        trying.failed(is_refusal);
        app.metrics.sent("failed");
        if trying.refusals >= REFUSALS_MAX {
            app.metrics.sent("passed_over");
            tracing::error!(
                webhook = self.name,
                alarm = id,
                found,
                "an alarm is refused again and again: those after it are sent"
            );
            return true;
        }
        let again_s = trying.pause().as_secs();
        tracing::warn!(webhook = self.name, alarm = id, found, again_s, "an alarm was not taken");
        false
    }

    async fn try_once(&self, id: i64, body: &str) -> Result<(), Untaken> {
        let (id, now) = (format!("alarm_{id}"), Timestamp::now().as_second().to_string());
        let request = self
            .client
            .post(self.url.clone())
            .timeout(PATIENCE)
            .header("content-type", "application/json")
            .header("webhook-signature", signature(&self.secret, &id, &now, body))
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .body(body.to_owned());
        let unreached = |error: reqwest::Error| Untaken { found: error.without_url().to_string(), is_refusal: false };
        let status: StatusCode = request.send().await.map_err(unreached)?.status();
        if status.is_success() { Ok(()) } else { Err(Untaken::answered(status)) }
    }
}

/// Why an alarm was not taken.
struct Untaken {
    found: String,
    /// Whether it is this alarm that is not wanted; else nothing would be taken now.
    is_refusal: bool,
}

impl Untaken {
    fn answered(status: StatusCode) -> Self {
        // Any other status says that nothing may be sent, or not there, or not now, whatever the alarm.
        let of_body = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
        let is_refusal = of_body.contains(&status);
        Self { found: format!("status {status}"), is_refusal }
    }
}

/// How often an alarm was sent in vain.
#[derive(Default)]
struct Trying {
    alarm: i64,
    failures: u32,
    refusals: u32,
}

impl Trying {
    fn begin(&mut self, alarm: i64) {
        if self.alarm != alarm {
            *self = Self { alarm, ..Self::default() };
        }
    }

    fn failed(&mut self, is_refusal: bool) {
        self.failures += 1;
        self.refusals += u32::from(is_refusal);
    }

    fn pause(&self) -> Duration {
        (PAUSE * 2u32.saturating_pow(self.failures.saturating_sub(1).min(16))).min(PAUSE_MAX)
    }
}

/// `webhook-signature` (Standard Webhooks 1.0, *Signature scheme*): HMAC-SHA256 of id, timestamp and body.
fn signature(secret: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn it_signs_as_the_standard_does() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn pauses_grow_and_begin_anew_with_each_alarm() {
        let mut trying = Trying::default();
        trying.begin(1);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            trying.failed(true);
            pauses.push(trying.pause().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        trying.begin(1);
        assert_eq!((trying.failures, trying.refusals), (12, 12));
        trying.begin(2);
        assert_eq!((trying.failures, trying.refusals), (0, 0));
    }

    #[test]
    fn only_what_is_about_the_alarm_is_a_refusal() {
        for (status, is_refusal) in [
            (400, true),
            (413, true),
            (422, true),
            (401, false),
            (404, false),
            (410, false),
            (429, false),
            (503, false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Untaken::answered(status).is_refusal, is_refusal, "{status}");
        }
    }

    #[test]
    fn what_is_no_webhook_is_told_without_its_secret() {
        let settings = |url: &str, secret: &str| WebhookSettings {
            name: "pager".into(),
            url: url.into(),
            secret: secret.into(),
            level_min: Level::Review,
        };
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert!(Sender::new(&settings("https://pager.example", good)).is_ok());
        for (url, secret) in
            [("ftp://pager.example", good), ("pager", good), ("https://pager.example", "whsec_c2hvcnQ=")]
        {
            let told = Sender::new(&settings(url, secret)).err().unwrap();
            assert!(told.contains("pager") && !told.contains("c2hvcnQ"), "{told}");
        }
    }
}
