//! In builds that open no connection there is no upstream.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue};

use super::{Failed, UpstreamError, UpstreamSettings};

/// There is none in this build.
pub enum Upstream {}

pub enum Reply {}

impl Upstream {
    /// # Errors
    /// Always.
    pub fn new(_: &UpstreamSettings) -> Result<Self, UpstreamError> {
        let found = "this build opens no connection; hint: cargo install --features outbound";
        Err(UpstreamError(found.into()))
    }

    pub async fn status(&self) -> Result<u16, UpstreamError> {
        match *self {}
    }

    pub async fn ask(&self, _: Bytes, _: Option<&HeaderValue>) -> Result<Reply, Failed> {
        match *self {}
    }
}

impl Reply {
    pub fn status(&self) -> u16 {
        match *self {}
    }

    pub fn headers(&self) -> &HeaderMap {
        match *self {}
    }

    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failed> {
        match *self {}
    }
}
