//! The model that replies are asked of: an OpenAI-compatible server that the operator names. The one place that opens connections, in builds
//! with the feature `outbound` alone.

use std::fmt;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};

#[cfg(feature = "outbound")]
mod client;
#[cfg(not(feature = "outbound"))]
#[path = "upstream/no_client.rs"]
mod client;

pub(super) use client::Reply;
pub(in crate::server) use client::Upstream;

/// Where replies come from.
#[derive(Clone)]
pub struct UpstreamSettings {
    /// As SDKs know it, up to `/v1`.
    pub base_url: String,
    /// Its key; without one, what the caller sends.
    pub key: Option<String>,
    /// How long it may be silent.
    pub patience: Duration,
}

impl fmt::Debug for UpstreamSettings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("UpstreamSettings").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Why an upstream cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UpstreamError(String);

/// Why there is no reply, or no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[cfg_attr(not(feature = "outbound"), expect(dead_code, reason = "a build that asks nobody is failed by nobody"))]
pub(in crate::server) enum Failed {
    #[error("the upstream cannot be reached")]
    Unreachable,
    #[error("the upstream was silent for too long")]
    Silent,
    #[error("the upstream broke off")]
    Broken,
}

/// Headers of an answer that callers read.
fn is_passed_on(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["content-type", "retry-after", "x-request-id"].contains(&name)
        || name.starts_with("x-ratelimit-")
        || name.starts_with("openai-")
}

/// The headers of an answer that are passed on.
pub(super) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let headers = headers.iter().filter(|(name, _)| is_passed_on(name));
    headers.map(|(name, value)| (name.clone(), value.clone())).collect()
}
