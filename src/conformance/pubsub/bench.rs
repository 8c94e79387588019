//! One part of the suite of streams at work: a stream and subjects of its own, consumers, deadlines.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use futures::future::poll_fn;
use tokio::time::{Instant, sleep, timeout};

use super::Shape;
use super::probe::{PATIENCE, Probe, text};
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::Ack;
use crate::pubsub::driver::{
    ConsumerConfig, Deliveries, Delivery, Driver, OutboundMessage, Settlement, Streams,
};
use crate::streams::{StreamConfig, StreamStatus};

/// Longer than any part runs: nothing comes again in it.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) struct Bench<'a> {
    pub(super) probe: Probe,
    shape: Shape<'a>,
    /// The stream's name.
    pub(super) name: String,
}

impl<'a> Bench<'a> {
    pub(super) fn new(driver: &Arc<dyn Driver>, shape: Shape<'a>, part: &'static str) -> Self {
        let probe = Probe::new(driver, part);
        let name = format!("CONFORMANCE_{part}_{:016x}", rand::random::<u64>());
        let bench = Bench { probe, shape, name };
        let there = bench.probe.driver.streams().is_some();
        bench.probe.check("has streams", there, "none; claim no acknowledged publishing");
        bench
    }

    /// With a stream that stores all subjects of this part.
    pub(super) async fn with_stream(
        driver: &Arc<dyn Driver>,
        shape: Shape<'a>,
        part: &'static str,
    ) -> Self {
        let bench = Bench::new(driver, shape, part);
        bench.create(bench.config()).await;
        bench
    }

    pub(super) fn streams(&self) -> &dyn Streams {
        match self.probe.driver.streams() {
            Some(streams) => streams,
            None => self.probe.fail("has streams", "none"),
        }
    }

    /// A stream for all subjects of this part.
    pub(super) fn config(&self) -> StreamConfig {
        self.config_of(&[">"])
    }

    pub(super) fn config_of(&self, tails: &[&str]) -> StreamConfig {
        let subjects = tails.iter().map(|tail| self.probe.subject(tail).to_string());
        (self.shape)(StreamConfig::new(&self.name, subjects))
    }

    /// The same with another name.
    pub(super) fn named(&self, name: &str, tails: &[&str]) -> StreamConfig {
        let subjects = tails.iter().map(|tail| self.probe.subject(tail).to_string());
        (self.shape)(StreamConfig::new(name, subjects))
    }

    pub(super) async fn create(&self, config: StreamConfig) -> StreamStatus {
        let call = self.streams().create_stream(&config, Probe::deadline());
        self.probe.ok("create a stream", call).await
    }

    /// The same where the back end can; what it cannot do it must refuse.
    pub(super) async fn create_if_supported(&self, config: StreamConfig) -> bool {
        let call = self.streams().create_stream(&config, Probe::deadline());
        match self.probe.within("create a stream", call).await {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let left = self.status().await;
                self.probe.check("a refusal makes nothing", left.is_none(), left);
                false
            }
            Err(error) => self.probe.fail("create a stream or refuse it as unsupported", error),
        }
    }

    pub(super) async fn status(&self) -> Option<StreamStatus> {
        let call = self.streams().stream(&self.name, Probe::deadline());
        self.probe.ok("ask for the stream", call).await
    }

    /// Ends the part. Streams cost the server something.
    pub(super) async fn done(self) {
        let call = self.streams().delete_stream(&self.name, Probe::deadline());
        self.probe.ok("delete the stream", call).await;
    }

    pub(super) async fn try_publish(
        &self,
        tail: &str,
        payload: impl Into<bytes::Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<Ack> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let message = self.probe.with_headers(tail, payload, map);
        let call = self.probe.driver.publish_acked(message, Probe::deadline());
        self.probe.within("publish_acked", call).await
    }

    /// As applications do, again while nobody takes it: the servers of a cluster hear of a new stream
    /// one after the other.
    pub(super) async fn publish(&self, tail: &str, payload: impl Into<bytes::Bytes>) -> Ack {
        let (payload, deadline) = (payload.into(), Probe::deadline());
        loop {
            match self.try_publish(tail, payload.clone(), &[]).await {
                Ok(ack) => return ack,
                Err(error) if error.is_no_responders() && Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(error) => self.probe.fail("publish_acked", error),
            }
        }
    }

    /// Publishes "1" to "n" to the same subject.
    pub(super) async fn publish_numbers(&self, tail: &str, n: usize) {
        for number in 1..=n {
            self.publish(tail, number.to_string()).await;
        }
    }

    /// The payloads that the stream holds.
    pub(super) async fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        let mut sequence = 1;
        loop {
            let call = self.streams().message_from(&self.name, ">", sequence, Probe::deadline());
            let Some(found) = self.probe.ok("read a stored message", call).await else {
                return held;
            };
            sequence = found.sequence + 1;
            held.push(text(&found.message));
        }
    }

    /// Waits until the stream holds this.
    pub(super) async fn holds(&self, step: &str, expected: &[&str]) {
        let deadline = Probe::deadline();
        loop {
            let held = self.held().await;
            if held == expected {
                return;
            }
            self.probe.check(step, Instant::now() < deadline, held);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// A consumer of this stream whose messages do not come again by themselves.
    pub(super) fn consumer(&self, name: &str) -> ConsumerConfig {
        ConsumerConfig { ack_wait: LONG, ..ConsumerConfig::new(&self.name, name) }
    }

    pub(super) fn filters(&self, tails: &[&str]) -> Vec<String> {
        tails.iter().map(|tail| self.probe.subject(tail).to_string()).collect()
    }

    pub(super) async fn join(&self, config: &ConsumerConfig) -> Member {
        let call = self.streams().consume(config, false, Probe::deadline());
        let consuming = self.probe.ok("consume", call).await;
        let differences = &consuming.differences;
        self.probe.check("nothing differs", differences.is_empty(), differences);
        Member { deliveries: consuming.deliveries, probe: self.probe.clone() }
    }

    /// The error of a call that must be refused.
    pub(super) async fn refused<T>(
        &self,
        step: &str,
        kind: ErrorKind,
        call: impl Future<Output = Result<T>>,
    ) {
        let found = self.probe.within(step, call).await.map(|_| ()).map_err(|error| error.kind());
        self.probe.check(step, found == Err(kind), found);
    }
}

/// A member of a consumer under test.
pub(super) struct Member {
    pub(super) deliveries: Box<dyn Deliveries>,
    probe: Probe,
}

impl Member {
    pub(super) async fn next(&mut self, step: &str, room: usize) -> Option<Delivery> {
        match timeout(PATIENCE, poll_fn(|cx| self.deliveries.poll_next(room, cx))).await {
            Ok(delivery) => delivery,
            Err(_) => self.probe.fail(step, "no message came"),
        }
    }

    pub(super) async fn delivery(&mut self, step: &str, room: usize) -> Delivery {
        match self.next(step, room).await {
            Some(delivery) => delivery,
            None => self.probe.fail(step, "the member ended"),
        }
    }

    /// The next message if one comes within this time.
    pub(super) async fn within(&mut self, time: Duration, room: usize) -> Option<Delivery> {
        timeout(time, poll_fn(|cx| self.deliveries.poll_next(room, cx))).await.ok().flatten()
    }

    /// Asks for messages; none is there yet.
    pub(super) async fn ask(&mut self, room: usize) {
        let early = self.within(Duration::from_millis(1), room).await;
        self.probe.check("no message before there is one", early.is_none(), early);
        self.probe.flush().await;
    }

    pub(super) async fn settle(&self, delivery: &Delivery, settlement: Settlement) {
        settle(&self.probe, &delivery.receipt, settlement).await;
    }

    /// The next messages, done, by their payloads.
    pub(super) async fn done(&mut self, step: &str, n: usize) -> Vec<String> {
        let mut payloads = Vec::new();
        for _ in 0..n {
            let delivery = self.delivery(step, n).await;
            self.settle(&delivery, Settlement::Done).await;
            payloads.push(text(&delivery.message));
        }
        payloads
    }

    pub(super) async fn drain(&mut self) {
        self.probe.ok("drain a member", self.deliveries.drain(Probe::deadline())).await;
    }

    pub(super) async fn close(&mut self) {
        self.probe.within("close a member", self.deliveries.close()).await;
    }
}

pub(super) async fn settle(probe: &Probe, receipt: &Subject, settlement: Settlement) {
    let Some(streams) = probe.driver.streams() else { return };
    probe.ok("settle", streams.settle(receipt, settlement, Probe::deadline())).await;
}

/// Runs a part that a busy machine can spoil, with longer and longer waits, until it tells something.
pub(super) async fn conclusive(probe: &Probe, mut part: impl AsyncFnMut(Duration) -> bool) {
    for wait in [1, 2, 4, 8] {
        if part(Duration::from_secs(wait)).await {
            return;
        }
    }
    probe.fail("find out about the ack wait", "the machine is too busy");
}

pub(super) fn is(kind: ErrorKind) -> impl Fn(&Error) -> bool {
    move |error| error.kind() == kind
}

/// Several messages, as drivers take them.
pub(super) fn batch(probe: &Probe, messages: &[(&str, &str)]) -> Vec<OutboundMessage> {
    messages.iter().map(|(tail, payload)| probe.message(tail, (*payload).to_owned())).collect()
}
