//! What opens connections, to where the operator says and nowhere else.

use std::time::Duration;

use reqwest::{Client, Url, redirect};

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A client that waits so long for each part of an answer, and that follows nobody elsewhere.
pub(super) fn client(patience: Duration) -> reqwest::Result<Client> {
    // Whoever installed one before has the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT_PATIENCE)
        .read_timeout(patience)
        .redirect(redirect::Policy::none())
        .build()
}

/// An address that is asked by HTTP.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("is asked by {other}, not by http or https")),
    }
}
