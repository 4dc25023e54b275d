//! A streamed reply: read, held back, judged as it grows, let go.

use std::convert::Infallible;
use std::time::Instant;

use axum::body::Bytes;
use axum::http::StatusCode;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::mpsc;

use super::held::{Cuts, Events, Held, Unread};
use super::upstream::Reply;
use super::{Conversation, chat, no_reply, too_long};
use crate::server::App;
use crate::server::problem::Problem;

/// Pieces that a slow client may be behind.
const PIECES_BEHIND_MAX: usize = 64;
/// Bytes of events that may be held for each byte of text that a reply may have. Around a word of five bytes stand some 250: a reply of 100,000
/// words, held whole, is 25 MB of events, and where 4 MiB of text are allowed it may be 64 MiB.
const EVENT_BYTES_PER_TEXT: usize = 16;

/// A reply on its way to a client.
struct Relay {
    conversation: Conversation,
    reply: Reply,
    events: Events,
    held: Held,
    client: mpsc::Sender<Bytes>,
    reply_bytes_max: usize,
}

/// Why a reply ends before its end.
enum Ended {
    /// It is not to be seen.
    Blocked,
    Failed(Problem),
    /// The client is gone.
    Left,
}

/// The events of a reply as they clear. It is read to its end or block by a task of its own, so that what a client saw is kept though it goes away.
pub(super) fn relayed(conversation: Conversation, reply: Reply) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let (client, pieces) = mpsc::channel(PIECES_BEHIND_MAX);
    let app = conversation.app.clone();
    if let Some(proxy) = &app.proxy {
        let held = Held::new(proxy.settings.hold);
        let reply_bytes_max = proxy.settings.reply_bytes_max;
        let relay = Relay { conversation, reply, events: Events::default(), held, client, reply_bytes_max };
        app.background.spawn(relay.run());
    }
    unfold(pieces, |mut pieces| async move { Some((Ok(pieces.recv().await?), pieces)) })
}

impl Relay {
    async fn run(mut self) {
        let ended = self.relay().await;
        let metrics = self.conversation.app.metrics.clone();
        // Whoever left saw what was sent; of the others, what was not sent yet is sent with the last of it.
        self.conversation.keep_reply(self.held.delivered()).await;
        let last = match ended {
            Ok(last) => {
                metrics.proxied("delivered");
                last
            }
            Err(Ended::Left) => {
                metrics.proxied("left");
                return;
            }
            Err(Ended::Blocked) => {
                metrics.proxied("reply_blocked");
                chat::blocked_end(&self.held.choices())
            }
            Err(Ended::Failed(problem)) => {
                tracing::warn!(detail = problem.detail, "a reply ended early");
                metrics.proxied("failed");
                chat::failed_end(&problem)
            }
        };
        // The client may be gone.
        let _ = self.client.send(last.into()).await;
    }

    /// Until the reply's end: the last events, which are still to be sent.
    async fn relay(&mut self) -> Result<Vec<u8>, Ended> {
        let mut ended = false;
        loop {
            let free = match self.held.due(Instant::now(), ended) {
                Some(cuts) => self.judge(&cuts).await?,
                None => self.let_go(None),
            };
            if ended {
                return Ok(free);
            }
            self.send(free).await?;
            if self.held.due(Instant::now(), false).is_none() {
                ended = self.read().await?;
            }
        }
    }

    /// Reads on, until something is to be judged; whether the reply has ended.
    async fn read(&mut self) -> Result<bool, Ended> {
        let judge_at = self.held.judge_at().map(tokio::time::Instant::from_std);
        let wait = async {
            match judge_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let bytes = tokio::select! {
            bytes = self.reply.chunk() => bytes,
            () = wait => return Ok(false),
            () = self.client.closed() => return Err(Ended::Left),
            () = drained(&self.conversation.app) => return Err(Ended::Failed(Problem::stopping())),
        };
        let bytes = bytes.map_err(|failed| Ended::Failed(no_reply(failed)))?;
        let (events, ended) = match bytes {
            Some(bytes) => (self.events.push(&bytes).map_err(unread)?, false),
            // What it broke off in is an event as well.
            None => (Vec::from_iter(self.events.rest()), true),
        };
        let now = Instant::now();
        for event in events {
            self.held.push(event, now).map_err(unread)?;
        }
        self.bound()?;
        Ok(ended || self.held.is_done())
    }

    /// Whether no more was said, and no more is held, than may be.
    fn bound(&self) -> Result<(), Ended> {
        let limit = self.reply_bytes_max;
        if self.held.bytes() > limit {
            return Err(Ended::Failed(too_long(format!("the reply is longer than {limit} bytes"))));
        }
        let limit = limit.saturating_mul(EVENT_BYTES_PER_TEXT);
        if self.held.event_bytes() > limit {
            let detail = format!("the events of the reply that wait to be judged are longer than {limit} bytes");
            return Err(Ended::Failed(too_long(detail)));
        }
        Ok(())
    }

    /// Judges what each choice said so far; the events that clear.
    async fn judge(&mut self, cuts: &Cuts) -> Result<Vec<u8>, Ended> {
        // A space at the end is read together with what comes after it.
        let texts: Vec<String> = cuts.iter().map(|cut| self.held.text(*cut).trim_end().to_owned()).collect();
        let judged = tokio::select! {
            judged = self.conversation.reply_judged(&texts) => judged.map_err(Ended::Failed)?,
            () = self.client.closed() => return Err(Ended::Left),
        };
        if judged.is_some_and(|judged| judged.blocked) {
            return Err(Ended::Blocked);
        }
        Ok(self.let_go(Some(cuts)))
    }

    fn let_go(&mut self, cuts: Option<&Cuts>) -> Vec<u8> {
        let free = match cuts {
            Some(cuts) => self.held.clear(cuts),
            None => self.held.free(),
        };
        let metrics = &self.conversation.app.metrics;
        free.iter().for_each(|(_, came)| metrics.held(came.elapsed()));
        free.into_iter().flat_map(|(bytes, _)| bytes).collect()
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), Ended> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Of a client that reads no more, too, what it saw is kept when the server stops.
        tokio::select! {
            sent = self.client.send(bytes.into()) => sent.map_err(|_| Ended::Left),
            () = drained(&self.conversation.app) => Err(Ended::Failed(Problem::stopping())),
        }
    }
}

/// Until the server has stopped for as long as it waits for anybody.
async fn drained(app: &App) {
    let mut drained = app.drained.subscribe();
    // What tells it lives as long as the server.
    let _ = drained.wait_for(|drained| *drained).await;
}

fn unread(unread: Unread) -> Ended {
    let detail = format!("the upstream sent {unread}");
    Ended::Failed(Problem::new(StatusCode::BAD_GATEWAY, detail, "is --upstream right?"))
}
