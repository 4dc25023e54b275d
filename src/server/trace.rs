//! What a request spends its time on, as spans: the request, its wait, judging, keeping. No span names a user or holds text.
//!
//! Spans go nowhere by themselves: builds with the feature `otel` hand them to a subscriber that exports them, and take up the trace that
//! the caller began (W3C Trace Context, `traceparent`).

use axum::http::{HeaderMap, Method};
use tracing::Span;
use tracing::field::Empty;

/// Of a request that came; with the headers of a caller whose trace is gone on with.
pub(super) fn request(method: &Method, route: &str, headers: Option<&HeaderMap>) -> Span {
    // Methods may be of any length: only those that are answered are named (OpenTelemetry's semantic conventions for HTTP).
    let known = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD, Method::OPTIONS];
    let method = if known.contains(method) { method.as_str() } else { "_OTHER" };
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    headers.into_iter().for_each(|headers| adopt(&span, headers));
    span
}

/// That it was answered with this status.
pub(super) fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
}

/// Makes the span a part of the trace that the caller is in.
#[cfg(feature = "otel")]
fn adopt(span: &Span, headers: &HeaderMap) {
    use opentelemetry::propagation::{Extractor, TextMapPropagator};
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    struct Headers<'a>(&'a HeaderMap);
    impl Extractor for Headers<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.get(key)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(axum::http::HeaderName::as_str).collect()
        }
    }
    // Where spans are not exported there is no trace to be a part of.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
}

#[cfg(not(feature = "otel"))]
fn adopt(_: &Span, _: &HeaderMap) {}

/// The header that makes what is asked of another server a part of this trace, where there is one.
#[cfg(all(feature = "outbound", feature = "otel"))]
pub(super) fn traceparent() -> Option<axum::http::HeaderValue> {
    use opentelemetry::trace::TraceContextExt;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    span.is_valid().then(|| axum::http::HeaderValue::try_from(format!("00-{trace}-{id}-{flags:02x}")).ok())?
}

#[cfg(all(feature = "outbound", not(feature = "otel")))]
pub(super) fn traceparent() -> Option<axum::http::HeaderValue> {
    None
}
