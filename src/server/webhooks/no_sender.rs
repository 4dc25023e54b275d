//! In builds that open no connection no alarm is sent.

use std::sync::Arc;

use super::WebhookSettings;
use crate::server::App;

pub(in crate::server) enum Sender {}

impl Sender {
    /// # Errors
    /// Always.
    pub fn new(settings: &WebhookSettings) -> Result<Self, String> {
        let hint = "hint: cargo install --features outbound";
        Err(format!("the webhook {}: this build opens no connection; {hint}", settings.name))
    }

    pub async fn run(self, _: Arc<App>) {
        match self {}
    }
}
