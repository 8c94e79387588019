//! Request and reply, and the round trip that proves what was published.

use std::time::Duration;

use async_nats::HeaderMap;
use futures::future::BoxFuture;

use super::publish::Draft;
use super::{Message, PubSub};
use crate::call::{Call, Operation};
use crate::deadline::after;
use crate::error::{Error, Result};
use crate::metrics::Begun;

/// A request, made by [`PubSub::request`].
#[derive(Debug)]
pub struct Request {
    draft: Draft,
}

impl Request {
    pub(super) fn new(draft: Draft) -> Self {
        Request { draft }
    }

    pub(super) async fn run(self, timeout: Option<Duration>) -> Result<Message> {
        let (handle, message, timeout) = self.draft.finish(timeout)?;
        let begun = Begun::now();
        let deadline = after(timeout);
        let subject = message.subject.clone();
        let core = handle.core();
        let answer = match &core.nats {
            Some(nats) => nats.ask(message, deadline).await,
            None => core.driver.request(message, deadline).await,
        };
        core.metrics.requested(begun, &answer);
        match answer {
            Ok(answer) => Ok(Message::new(answer, handle)),
            Err(error) if error.is_no_responders() => Err(Error::no_responders(
                "nobody answers this topic: start the service that subscribes to it",
            )
            .with("topic", subject.as_str())),
            Err(error) => Err(error.with("topic", subject.as_str())),
        }
    }
}

impl Call<Request> {
    /// Adds a header; given again, a further value. A CR or LF in it is refused.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.map_operation(|request| request.draft.add(name, value))
    }

    /// Adds headers.
    pub fn headers(self, headers: &HeaderMap) -> Self {
        self.map_operation(|request| request.draft.add_all(headers))
    }

    /// Takes the topic as the full subject.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|request| request.draft.ignore_prefix())
    }
}

impl Operation for Request {
    type Output = Result<Message>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Message>> {
        Box::pin(async move { self.run(timeout).await.map_err(|error| error.operation("request")) })
    }
}

/// A round trip, made by [`PubSub::flush`].
#[derive(Debug)]
pub struct Flush {
    handle: PubSub,
}

impl Flush {
    pub(super) fn new(handle: PubSub) -> Self {
        Flush { handle }
    }
}

impl Operation for Flush {
    type Output = Result<()>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let flush = async {
                let handle = self.handle.bind()?;
                let core = handle.core();
                core.driver.flush(after(timeout.unwrap_or(core.timeout))).await
            };
            flush.await.map_err(|error: Error| error.operation("flush"))
        })
    }
}
