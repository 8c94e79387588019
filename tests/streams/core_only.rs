//! A driver without streams.

use futures::FutureExt;
use futures::future::BoxFuture;
use nats_connector::Result;
use nats_connector::pubsub::Ack;
use nats_connector::pubsub::driver::{
    Capabilities, Driver, InboundMessage, OutboundMessage, Source, Streams,
};
use nats_connector::pubsub::memory::MemoryDriver;
use tokio::time::Instant;

/// Core messaging in this process, and nothing else.
#[derive(Debug, Default)]
pub(crate) struct CoreOnly(MemoryDriver);

impl Driver for CoreOnly {
    fn name(&self) -> &str {
        "core"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::core(1024)
    }

    fn publish(&self, message: OutboundMessage, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        self.0.publish(message, deadline)
    }

    fn publish_acked(&self, _: OutboundMessage, _: Instant) -> BoxFuture<'_, Result<Ack>> {
        async { unreachable!("it is not claimed") }.boxed()
    }

    fn request(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<InboundMessage>> {
        self.0.request(message, deadline)
    }

    fn subscribe(
        &self,
        subject: async_nats::Subject,
        queue: Option<String>,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Source>>> {
        self.0.subscribe(subject, queue, deadline)
    }

    fn flush(&self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        self.0.flush(deadline)
    }

    fn streams(&self) -> Option<&dyn Streams> {
        None
    }
}
