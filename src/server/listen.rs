//! Connections: so many, each with limits on how slowly it may ask and read, and a bounded goodbye.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;

/// Connections at once; others wait to be taken in.
const CONNECTIONS_MAX: usize = 1_024;
/// How long a greeting of TLS may take.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
/// How long the head of a request may take to come, on a connection that is kept open too.
const HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a caller may take nothing of an answer: who reads no more would keep a place, and all that waits to be read.
const READER_PATIENCE: Duration = Duration::from_secs(60);
/// After a socket could not be taken in, such as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How connections are answered.
#[derive(Clone)]
struct Http {
    http: http1::Builder,
    router: Router,
    tls: Option<TlsAcceptor>,
    reader_patience: Duration,
}

/// Answers until `stop` is done, and then for at most `drain` those who are being answered.
pub(super) async fn serve(
    (listener, tls): (TcpListener, Option<TlsAcceptor>),
    router: Router,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> io::Result<()> {
    let (room, graceful) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), GracefulShutdown::new());
    let http = Http::new(router, tls);
    tokio::pin!(stop);
    loop {
        let taken = async {
            // The semaphore is never closed.
            let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            let (socket, _) = listener.accept().await?;
            io::Result::Ok((place, socket))
        };
        let (place, socket) = tokio::select! {
            () = &mut stop => break,
            taken = taken => match taken {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // An answer is one small write: it must not wait for another to go with.
        let _ = socket.set_nodelay(true);
        let (http, watcher) = (http.clone(), graceful.watcher());
        tokio::spawn(async move {
            http.greet(socket, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = drain.as_secs(), "some callers were still there and are left");
    }
    Ok(())
}

impl Http {
    fn new(router: Router, tls: Option<TlsAcceptor>) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(HEAD_BYTES_MAX);
        Self { http, router, tls, reader_patience: READER_PATIENCE }
    }

    async fn greet(&self, socket: TcpStream, watcher: Watcher) {
        let mut socket = Box::pin(TimeoutStream::new(socket));
        socket.as_mut().set_write_timeout_pinned(Some(self.reader_patience));
        let Some(tls) = &self.tls else { return self.answer(socket, watcher).await };
        match tokio::time::timeout(GREETING_PATIENCE, tls.accept(socket)).await {
            Ok(Ok(socket)) => self.answer(socket, watcher).await,
            Ok(Err(error)) => tracing::debug!(%error, "a greeting of TLS failed"),
            Err(_) => tracing::debug!("a greeting of TLS took too long"),
        }
    }

    async fn answer(&self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, watcher: Watcher) {
        let connection =
            self.http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(self.router.clone()));
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// More than sockets hold between them.
    const ANSWER_BYTES: usize = 64 << 20;

    /// Who asks for a large answer and reads it after a pause: how much of it comes.
    async fn read_after(pause: Duration, patience: Duration) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        caller.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").await.unwrap();
        let router = Router::new().route("/", get(async || vec![b'x'; ANSWER_BYTES]));
        let http = Http { reader_patience: patience, ..Http::new(router, None) };
        let (socket, _) = listener.accept().await.unwrap();
        let answering = tokio::spawn(async move { http.greet(socket, GracefulShutdown::new().watcher()).await });
        tokio::time::sleep(pause).await;
        let mut answer = Vec::new();
        // A connection that was given up may end in an error, after what had been sent.
        let _ = caller.read_to_end(&mut answer).await;
        answering.await.unwrap();
        answer.len()
    }

    #[tokio::test]
    async fn who_reads_nothing_is_given_up() {
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(60));
        assert!(read_after(Duration::from_secs(1), short).await < ANSWER_BYTES);
        assert!(read_after(Duration::from_secs(1), long).await > ANSWER_BYTES);
    }
}
