//! A stream at the service that serves it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

use super::channel::{Channel, Side, Start};
use super::frame::{self, Control, REPLY_TO};
use super::pump::pump;
use super::wire::Wire;
use super::{HEARTBEAT, Held, Receiver, Sender, faults};
use crate::error::ErrorKind;
use crate::rpc::{self, Codec, RpcError};

/// A handler whose caller has gone may clean up for so long.
const CLEAN_UP: Duration = Duration::from_secs(10);
/// A caller that said nothing for so long may listen.
const SILENT: Duration = Duration::from_secs(10);

/// The service's side of a stream. Dropping it ends all that was for it, and tells nobody.
pub(super) struct Accepted {
    pub(super) held: Arc<Held>,
    wire: Wire,
    caller: Subject,
}

/// Where the frames for a caller go.
pub(super) fn caller_of(headers: &HeaderMap, reply: Option<&Subject>) -> Option<Subject> {
    frame::text(headers, REPLY_TO).and_then(frame::subject).or_else(|| reply.cloned())
}

impl Accepted {
    /// Takes the stream that a message opens, and says so to a caller that waits for it, or knows
    /// what it means. `window`: items come from the caller, and so many may wait to be read.
    pub(super) async fn accept(
        wire: Wire,
        headers: &HeaderMap,
        reply: Option<&Subject>,
        window: Option<u64>,
    ) -> rpc::Result<Accepted> {
        let Some(caller) = caller_of(headers, reply) else {
            let message = "a call that opens a stream has no Reply-To header and no reply subject";
            return Err(RpcError::invalid_argument(message));
        };
        let mut said = Control::of(headers).map_err(RpcError::invalid_argument)?;
        let inbox = wire.new_inbox()?;
        let source = match wire.subscribe(&inbox).await {
            Ok(source) => Some(source),
            Err(error) if window.is_some() => return Err(error.into()),
            // Items can go out without it, to a caller that looks after itself.
            Err(error) => {
                tracing::warn!(%error, "a stream goes without credit, and does not notice that its caller has gone");
                said = Control::default();
                None
            }
        };
        let knows = said.heartbeat.is_some();
        let channel = Arc::new(Channel::new(
            wire.clone(),
            Start {
                side: Side::Server,
                inbox: source.is_some().then(|| inbox.clone()),
                opened: None,
                peer: Some(caller.clone()),
                said,
                window,
                deadline: None,
                past: wire.past(),
            },
        ));
        let greeting = Control {
            inbox: Some(inbox),
            credit: window.filter(|_| knows),
            heartbeat: knows.then_some(HEARTBEAT),
            ..Control::default()
        };
        let held = Arc::new(Held(channel.clone()));
        if let Some(source) = source {
            tokio::spawn(pump(channel, source));
        }
        if knows || window.is_some() {
            let mut frame = HeaderMap::new();
            greeting.write(&mut frame);
            // Callers of other make wait for it at the reply subject.
            let to = reply.cloned().unwrap_or_else(|| caller.clone());
            wire.publish(to, None, frame, Bytes::new()).await?;
        }
        Ok(Accepted { held, wire, caller })
    }

    /// Runs the handler. Where nobody is left to read what it sends, and nothing more comes for it, it
    /// has some time to clean up and is dropped then.
    pub(super) async fn run<T>(
        &self,
        handler: impl Future<Output = rpc::Result<T>>,
    ) -> rpc::Result<T> {
        let deserted = async {
            let error = self.held.channel().deserted().await;
            tokio::time::sleep(CLEAN_UP).await;
            error
        };
        tokio::select! {
            // A handler that always has something to do comes last, else it leaves the others no turn.
            biased;
            error = deserted => Err(error),
            () = self.wire.drain_ends() => Err(faults::drained()),
            result = handler => result,
        }
    }

    pub(super) fn sender<T: 'static>(&self, codec: &Arc<dyn Codec<T>>) -> Sender<T> {
        Sender::new(self.held.clone(), codec.clone(), false)
    }

    pub(super) fn receiver<T: 'static>(&self, codec: &Arc<dyn Codec<T>>) -> Receiver<T> {
        Receiver::new(self.held.clone(), codec.clone(), None)
    }

    /// Ends a stream of items.
    pub(super) async fn finish(&self) -> rpc::Result<()> {
        self.held.channel().finish().await
    }

    /// Clients that are generated for Go listen for the answer to their stream only once they have
    /// ended it.
    pub(super) fn listens_late(&self) -> bool {
        !self.held.channel().has_heartbeat()
    }

    /// Waits until the caller's stream has ended, or has fallen silent, if the caller does not listen
    /// before.
    pub(super) async fn listens(&self) {
        if self.listens_late() {
            self.held.channel().heard_out(SILENT).await;
        }
    }

    /// Answers a stream of the caller's.
    pub(super) async fn answer(&self, headers: HeaderMap, body: Bytes) -> rpc::Result<()> {
        let sent = if self.listens_late() {
            self.wire.publish_until_heard(&self.caller, &headers, &body).await
        } else {
            self.wire.publish(self.caller.clone(), None, headers, body).await
        };
        sent.map_err(|error| match error.kind() {
            ErrorKind::TooLarge => {
                let text = format!("the response is too large: {error}");
                RpcError::internal(text).with_source(error)
            }
            _ => error.into(),
        })
    }
}

impl Drop for Accepted {
    fn drop(&mut self) {
        self.held.channel().close();
    }
}
