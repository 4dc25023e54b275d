//! In builds that open no connection no alarm is sent.

use std::sync::Arc;

use super::WebhookSettings;
use crate::server::App;

pub(super) enum Sender {}

impl Sender {
    /// # Errors
    /// Always.
    pub fn new(settings: &WebhookSettings) -> Result<Self, String> {
        Err(format!(
            "the webhook {}: this build opens no connection, cargo install --features outbound does",
            settings.name
        ))
    }

    pub async fn run(self: Arc<Self>, _: Arc<App>) {
        match *self {}
    }
}
