//! A client of the upstream.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use reqwest::{Client, Response, Url};

use crate::server::outbound::{address, client};
use crate::server::trace;

use super::{Failed, UpstreamError, UpstreamSettings};

/// A client of one server.
pub struct Upstream {
    client: Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

/// An answer whose body is still to be read.
pub struct Reply(Response);

impl Upstream {
    /// # Errors
    /// When the URL or the key is none.
    pub fn new(settings: &UpstreamSettings) -> Result<Self, UpstreamError> {
        let told = |found: String| {
            UpstreamError(format!("--upstream {found}; hint: as SDKs know it, such as http://127.0.0.1:8080/v1"))
        };
        let base = settings.base_url.trim_end_matches('/');
        let url = address(&format!("{base}/chat/completions")).map_err(told)?;
        let client = client(&url, settings.patience).map_err(UpstreamError)?;
        let authorization = settings.key.as_deref().map(authorization).transpose()?;
        Ok(Self { client, url, authorization })
    }

    /// The status of its list of models.
    pub async fn status(&self) -> Result<u16, UpstreamError> {
        let models = self.url.as_str().trim_end_matches("chat/completions").to_owned() + "models";
        let mut request = self.client.get(models);
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        let answer = request.send().await.map_err(|error| {
            UpstreamError(format!("{}; hint: is it running, and does --upstream name it?", failed(error)))
        })?;
        Ok(answer.status().as_u16())
    }

    /// Asks for a reply. Nothing of the caller's headers goes along but what is given.
    pub async fn ask(&self, body: Bytes, caller: Option<&HeaderValue>) -> Result<Reply, Failed> {
        let mut request =
            self.client.post(self.url.clone()).header(header::CONTENT_TYPE, "application/json").body(body);
        if let Some(value) = self.authorization.as_ref().or(caller) {
            request = request.header(header::AUTHORIZATION, value.clone());
        }
        if let Some(parent) = trace::traceparent() {
            request = request.header("traceparent", parent);
        }
        Ok(Reply(request.send().await.map_err(failed)?))
    }
}

impl Reply {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// What comes next; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failed> {
        self.0.chunk().await.map_err(failed)
    }
}

fn failed(error: reqwest::Error) -> Failed {
    let failed = match () {
        () if error.is_timeout() && !error.is_connect() => Failed::Silent,
        () if error.is_connect() => Failed::Unreachable,
        () => Failed::Broken,
    };
    // The URL may hold what is nobody's business.
    tracing::warn!(error = %error.without_url(), "{failed}");
    failed
}

/// `Authorization` of a key.
fn authorization(key: &str) -> Result<HeaderValue, UpstreamError> {
    let no_header = |_| UpstreamError("the upstream's key is no text of a header; hint: one line of ASCII".into());
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(no_header)?;
    value.set_sensitive(true);
    Ok(value)
}
