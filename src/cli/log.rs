//! The log on standard error, and traces to where the operator says.

use std::io::stderr;

use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use super::args::LogForm;

/// What is logged, as `tracing-subscriber`'s `EnvFilter` reads it.
const LOG_VARIABLE: &str = "THROUGHLINE_LOG";

/// Until it is dropped, spans are exported, if that was asked for.
pub struct Traces {
    #[cfg(feature = "otel")]
    _provider: Option<otel::Provider>,
}

/// Begins the log; spans go to `otlp`, the address of an OpenTelemetry collector.
///
/// # Errors
/// When the address cannot be used, or this build exports nothing.
pub fn begin(form: LogForm, otlp: Option<&str>) -> anyhow::Result<Traces> {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    // Lines stand for themselves: which request they belong to is for traces to say.
    let filter = filter.and(filter_fn(|metadata| !metadata.is_span()));
    let lines = fmt::layer().with_writer(stderr).with_timer(SystemTime);
    let lines = match form {
        LogForm::Text => lines.with_ansi(false).boxed(),
        LogForm::Json => lines.json().boxed(),
    };
    let log = tracing_subscriber::registry().with(lines.with_filter(filter));
    #[cfg(feature = "otel")]
    {
        let (layer, provider) = otlp.map(otel::layer).transpose()?.unzip();
        log.with(layer).init();
        Ok(Traces { _provider: provider })
    }
    #[cfg(not(feature = "otel"))]
    {
        anyhow::ensure!(
            otlp.is_none(),
            "this build exports no traces (--otlp); hint: cargo install --path . --features otel, or leave --otlp out"
        );
        log.init();
        Ok(Traces {})
    }
}

#[cfg(feature = "otel")]
mod otel {
    use anyhow::Context;
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
    use tracing_subscriber::filter::filter_fn;

    use super::Layer;

    /// Who exports; what is left goes out when it is dropped.
    pub struct Provider(SdkTracerProvider);

    impl Drop for Provider {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown() {
                tracing::warn!(%error, "the last traces were not exported");
            }
        }
    }

    /// Spans of this program, sent in batches by a thread of its own, over HTTP as Protocol Buffers (OTLP 1.x). Sampling, batches and
    /// resource attributes follow OpenTelemetry's own environment variables.
    pub fn layer<S>(address: &str) -> anyhow::Result<(impl Layer<S> + use<S>, Provider)>
    where
        S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    {
        // Whoever installed one before has the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", address.trim_end_matches('/')))
            .build()
            .context("--otlp; hint: the address of a collector, such as http://127.0.0.1:4318")?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("throughline");
        }
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        let tracer: Tracer = provider.tracer("throughline");
        // Lines of the log stay in the log; what exporting itself does is not traced.
        let spans = filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("throughline"));
        Ok((tracing_opentelemetry::layer().with_tracer(tracer).with_filter(spans), Provider(provider)))
    }
}

/// What a panic says may quote the text that it was about: the log has its place alone.
pub fn tell_panics_by_place() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(std::string::ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name().unwrap_or_default(), "a panic");
    }));
}
