//! A message to publish among many: what `publish` gave, with its options.

use std::time::Duration;

use crate::call::Call;
use crate::error::{Error, ErrorKind};
use crate::pubsub::publish::{Draft, Publish};
use crate::pubsub::publish_acked::PublishAcked;

/// One of many messages: made of what [`publish`](crate::pubsub::PubSub::publish) gives, with its
/// headers, or of its [`jetstream()`](Publish::jetstream) with a message id, expectations or a TTL.
#[derive(Debug)]
pub struct Outgoing {
    pub(super) draft: Draft,
    /// It has a message id, so it may be sent twice.
    pub(super) id: bool,
    /// It expires, which not every server can let it.
    pub(super) ttl: bool,
    /// Its own time limit.
    pub(super) timeout: Option<Duration>,
}

impl<D> From<Publish<D>> for Outgoing {
    fn from(publish: Publish<D>) -> Self {
        let draft = publish.into_draft();
        let id = draft.has_header("Nats-Msg-Id");
        Outgoing { draft, id, ttl: false, timeout: None }
    }
}

impl From<Call<PublishAcked>> for Outgoing {
    fn from(call: Call<PublishAcked>) -> Self {
        let (publish, timeout) = call.into_parts();
        let ttl = publish.as_ref().is_some_and(PublishAcked::has_ttl);
        let draft = match publish {
            Some(publish) => publish.into_draft(),
            None => Draft::refused(Error::new(
                ErrorKind::InvalidInput,
                "a publish call that was awaited before cannot be published among many; give one \
                 that was not",
            )),
        };
        let id = draft.has_header("Nats-Msg-Id");
        Outgoing { draft, id, ttl, timeout }
    }
}
