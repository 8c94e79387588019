//! The streams of the memory driver.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_nats::Subject;
use futures::future::{self, BoxFuture};
use tokio::time::Instant;

use super::filter::Filter;
use super::member::Member;
use super::seat::read_receipt;
use super::store::{Store, not_found};
use super::stream::State;
use super::{MemoryDriver, checked};
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::Ack;
use crate::pubsub::driver::{
    ConsumerConfig, Consuming, OutboundMessage, Pipeline, PipelineConfig, Settlement, Stored,
    Streams,
};
use crate::streams::{StreamConfig, StreamStatus};

impl MemoryDriver {
    /// Does `work` on all streams, when polled.
    fn on_all<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&'a Arc<Store>) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(future::lazy(move |_| work(&self.store)))
    }

    /// Does `work` on a stream that must be there, when polled.
    fn on<'a, T: Send + 'a>(
        &'a self,
        stream: &'a str,
        work: impl FnOnce(&mut State, Instant) -> Result<T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        self.on_all(move |store| {
            let found = store.get(stream)?.try_with(work);
            found.unwrap_or_else(|| Err(not_found(stream)))
        })
    }
}

impl Streams for MemoryDriver {
    fn stream<'a>(
        &'a self,
        name: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<StreamStatus>>> {
        self.on_all(|store| {
            let status = |state: &mut State, _| Ok(state.status());
            store.find(name)?.and_then(|stream| stream.try_with(status)).transpose()
        })
    }

    fn stream_of<'a>(
        &'a self,
        subject: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<String>>> {
        self.on_all(|store| store.name_of(subject))
    }

    fn stream_names(&self, _deadline: Instant) -> BoxFuture<'_, Result<Vec<String>>> {
        self.on_all(|store| store.names())
    }

    fn create_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>> {
        self.on_all(|store| store.create(config))
    }

    fn update_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>> {
        self.on_all(|store| store.update(config))
    }

    fn delete_stream<'a>(
        &'a self,
        name: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.on_all(|store| store.delete(name))
    }

    fn purge_stream<'a>(
        &'a self,
        name: &'a str,
        subject: Option<&'a str>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        self.on(name, move |state, _| {
            let filter = Filter::new(subject.as_slice());
            Ok(state.purge(&filter, u64::MAX))
        })
    }

    fn message_from<'a>(
        &'a self,
        stream: &'a str,
        filter: &'a str,
        sequence: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Stored>>> {
        self.on(stream, move |state, _| Ok(state.message_from(filter, sequence)))
    }

    fn delete_message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.on(stream, move |state, _| Ok(state.remove(sequence)))
    }

    fn consumer_names<'a>(
        &'a self,
        stream: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        self.on(stream, |state, _| Ok(state.consumers.keys().cloned().collect()))
    }

    fn delete_consumer<'a>(
        &'a self,
        stream: &'a str,
        name: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        self.on(stream, |state, _| Ok(state.delete_consumer(name)))
    }

    fn pipeline(
        &self,
        _config: PipelineConfig,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Pipeline>>>> {
        // One call for each message is as good: it waits for nothing.
        self.on_all(|_| Ok(None))
    }

    fn publish_atomic<'a>(
        &'a self,
        stream: &'a str,
        messages: Vec<OutboundMessage>,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Ack>> {
        self.on(stream, |state, now| {
            let messages = messages.into_iter().map(checked).collect::<Result<_>>()?;
            state.publish_atomic(messages, now)
        })
    }

    fn consume<'a>(
        &'a self,
        config: &'a ConsumerConfig,
        overwrite: bool,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Consuming>> {
        self.on_all(move |store| {
            let stream = store.get(&config.stream)?;
            let joined = stream.try_with(|state, _| state.join(config, overwrite));
            let (seat, ack_wait, differences) =
                joined.unwrap_or_else(|| Err(not_found(&config.stream)))?;
            let member = Member::new(store, stream, config, seat);
            Ok(Consuming { deliveries: Box::new(member), ack_wait, differences })
        })
    }

    fn settle<'a>(
        &'a self,
        receipt: &'a Subject,
        settlement: Settlement,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        self.on_all(move |store| {
            let Some((stream, consumer, sequence, id)) = read_receipt(receipt) else {
                return Err(Error::new(ErrorKind::InvalidInput, "not a receipt of this driver")
                    .with("receipt", receipt.as_str()));
            };
            if let Some(stream) = store.find(stream)? {
                stream.with(|state, now| {
                    if state.id == id {
                        state.settle(consumer, sequence, &settlement, now);
                    }
                });
            }
            Ok(())
        })
    }
}
