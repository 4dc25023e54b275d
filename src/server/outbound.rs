//! What opens connections, to where the operator says and nowhere else.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, Url, redirect};

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A client of an address, that waits so long for each part of an answer, and that follows nobody elsewhere.
///
/// # Errors
/// In words, such as that the system has no certificates to know others by.
pub(super) fn client(url: &Url, patience: Duration) -> Result<Client, String> {
    // Whoever installed one before has the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder =
        Client::builder().connect_timeout(CONNECT_PATIENCE).read_timeout(patience).redirect(redirect::Policy::none());
    // Whoever is asked without TLS is asked on a machine without certificates, too.
    let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    builder.build().map_err(|error| {
        let cause = error.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
        format!("no client can be made: {}{cause}; hint: is ca-certificates installed?", error.without_url())
    })
}

/// An address that is asked by HTTP.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("is asked by {other}, not by http or https")),
    }
}
