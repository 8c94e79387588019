//! The streams of a NATS server.

use async_nats::Subject;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{NatsDriver, api, batch, consumer, many};
use crate::error::Result;
use crate::pubsub::Ack;
use crate::pubsub::driver::{
    ConsumerConfig, Consuming, OutboundMessage, Pipeline, PipelineConfig, Settlement, Stored,
    Streams,
};
use crate::streams::{StreamConfig, StreamStatus};

impl Streams for NatsDriver {
    fn stream<'a>(
        &'a self,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<StreamStatus>>> {
        api::stream(&self.link, name, deadline).boxed()
    }

    fn stream_of<'a>(
        &'a self,
        subject: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<String>>> {
        api::stream_of(&self.link, subject, deadline).boxed()
    }

    fn stream_names(&self, deadline: Instant) -> BoxFuture<'_, Result<Vec<String>>> {
        api::stream_names(&self.link, deadline).boxed()
    }

    fn create_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>> {
        api::create_stream(&self.link, config, deadline).boxed()
    }

    fn update_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>> {
        api::update_stream(&self.link, config, deadline).boxed()
    }

    fn delete_stream<'a>(
        &'a self,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        api::delete_stream(&self.link, name, deadline).boxed()
    }

    fn purge_stream<'a>(
        &'a self,
        name: &'a str,
        subject: Option<&'a str>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        api::purge_stream(&self.link, name, subject, deadline).boxed()
    }

    fn message_from<'a>(
        &'a self,
        stream: &'a str,
        filter: &'a str,
        sequence: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Stored>>> {
        api::message_from(&self.link, stream, filter, sequence, deadline).boxed()
    }

    fn delete_message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        api::delete_message(&self.link, stream, sequence, deadline).boxed()
    }

    fn consumer_names<'a>(
        &'a self,
        stream: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        consumer::names(&self.link, stream, deadline).boxed()
    }

    fn delete_consumer<'a>(
        &'a self,
        stream: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        consumer::delete(&self.link, stream, name, deadline).boxed()
    }

    fn pipeline(
        &self,
        config: PipelineConfig,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Pipeline>>>> {
        many::open(&self.link, config, deadline).boxed()
    }

    fn publish_atomic<'a>(
        &'a self,
        stream: &'a str,
        messages: Vec<OutboundMessage>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Ack>> {
        batch::publish(&self.link, stream, messages, deadline).boxed()
    }

    fn consume<'a>(
        &'a self,
        config: &'a ConsumerConfig,
        overwrite: bool,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Consuming>> {
        consumer::consume(&self.link, config, overwrite, deadline).boxed()
    }

    fn settle<'a>(
        &'a self,
        receipt: &'a Subject,
        settlement: Settlement,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        self.settle_now(receipt, settlement, deadline).boxed()
    }
}
