//! What the suites of streams and durable consumers make of drivers with a flaw.

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::Subject;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use nats_connector::conformance::pubsub as suite;
use nats_connector::pubsub::driver::{
    Capabilities, ConsumerConfig, Consuming, Deliveries, Delivery, DeliveryEvents, InboundMessage,
    OutboundMessage, Pipeline, PipelineConfig, Settlement, Source, Start, Stored, Streams,
};
use nats_connector::pubsub::memory::MemoryDriver;
use nats_connector::pubsub::{Ack, Driver};
use nats_connector::streams::{StreamConfig, StreamStatus};
use nats_connector::{ErrorKind, Result};
use tokio::time::Instant;

/// What is wrong with a driver.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    // Streams.
    MakesStreamsTwice,
    ForgetsOptions,
    KeepsDeletedStreams,
    FindsNoStream,
    SkipsAMessage,
    PurgesTooMuch,
    KeepsDeletedMessages,
    IgnoresExpectations,
    IgnoresIds,
    IgnoresLifetimes,
    ForgetsPlainMessages,
    TearsBatches,
    // Durable consumers.
    LosesAMessage,
    GivesAMessageTwice,
    CountsWrong,
    DeliversTooEarly,
    NeverDeliversAgain,
    IgnoresDone,
    IgnoresNever,
    IgnoresWorking,
    ForgetsWaits,
    PutsOffTooLong,
    IgnoresTheMostInFlight,
    IgnoresFilters,
    IgnoresStarts,
    HidesDifferences,
    OverwritesUnasked,
    NeverOverwrites,
    FirstMemberTakesAll,
    DrainLoses,
    NeverEnds,
    CloseLoses,
    KeepsDeletedConsumers,
    SaysNothingOfRemaking,
}

const STREAM_FLAWS: [Flaw; 12] = [
    Flaw::MakesStreamsTwice,
    Flaw::ForgetsOptions,
    Flaw::KeepsDeletedStreams,
    Flaw::FindsNoStream,
    Flaw::SkipsAMessage,
    Flaw::PurgesTooMuch,
    Flaw::KeepsDeletedMessages,
    Flaw::IgnoresExpectations,
    Flaw::IgnoresIds,
    Flaw::IgnoresLifetimes,
    Flaw::ForgetsPlainMessages,
    Flaw::TearsBatches,
];

const DURABLE_FLAWS: [Flaw; 22] = [
    Flaw::LosesAMessage,
    Flaw::GivesAMessageTwice,
    Flaw::CountsWrong,
    Flaw::DeliversTooEarly,
    Flaw::NeverDeliversAgain,
    Flaw::IgnoresDone,
    Flaw::IgnoresNever,
    Flaw::IgnoresWorking,
    Flaw::ForgetsWaits,
    Flaw::PutsOffTooLong,
    Flaw::IgnoresTheMostInFlight,
    Flaw::IgnoresFilters,
    Flaw::IgnoresStarts,
    Flaw::HidesDifferences,
    Flaw::OverwritesUnasked,
    Flaw::NeverOverwrites,
    Flaw::FirstMemberTakesAll,
    Flaw::DrainLoses,
    Flaw::NeverEnds,
    Flaw::CloseLoses,
    Flaw::KeepsDeletedConsumers,
    Flaw::SaysNothingOfRemaking,
];

/// The memory driver with a flaw.
#[derive(Debug)]
struct Flawed {
    inner: MemoryDriver,
    flaw: Flaw,
    calls: AtomicU64,
    /// The consumers that have had a member, each with its stream.
    first: Mutex<HashSet<(String, String)>>,
}

impl Flawed {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn streams(&self) -> &dyn Streams {
        self.inner.streams().unwrap()
    }

    fn altered(&self, mut message: OutboundMessage) -> OutboundMessage {
        let drop: &[&str] = match self.flaw {
            Flaw::IgnoresExpectations => &[
                "Nats-Expected-Last-Sequence",
                "Nats-Expected-Stream",
                "Nats-Expected-Last-Msg-Id",
                "Nats-Expected-Last-Subject-Sequence",
            ],
            Flaw::IgnoresIds => &["Nats-Msg-Id"],
            Flaw::IgnoresLifetimes => &["Nats-TTL"],
            _ => return message,
        };
        let mut kept = async_nats::HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(async_nats::HeaderMap::iter) {
            if !drop.contains(&name.as_ref()) {
                values.iter().for_each(|value| kept.append(name.clone(), value.clone()));
            }
        }
        message.headers = Some(kept);
        message
    }
}

impl Driver for Flawed {
    fn name(&self) -> &str {
        "flawed"
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn publish(&self, message: OutboundMessage, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        if self.has(Flaw::ForgetsPlainMessages) {
            return async { Ok(()) }.boxed();
        }
        self.inner.publish(message, deadline)
    }

    fn publish_acked(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Ack>> {
        self.inner.publish_acked(self.altered(message), deadline)
    }

    fn request(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<InboundMessage>> {
        self.inner.request(message, deadline)
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Source>>> {
        self.inner.subscribe(subject, queue, deadline)
    }

    fn flush(&self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        self.inner.flush(deadline)
    }

    fn streams(&self) -> Option<&dyn Streams> {
        Some(self)
    }
}

impl Streams for Flawed {
    fn stream<'a>(
        &'a self,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<StreamStatus>>> {
        self.streams().stream(name, deadline)
    }

    fn stream_of<'a>(
        &'a self,
        subject: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<String>>> {
        if self.has(Flaw::FindsNoStream) {
            return async { Ok(None) }.boxed();
        }
        self.streams().stream_of(subject, deadline)
    }

    fn stream_names(&self, deadline: Instant) -> BoxFuture<'_, Result<Vec<String>>> {
        self.streams().stream_names(deadline)
    }

    fn create_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>> {
        async move {
            if self.has(Flaw::MakesStreamsTwice)
                && let Some(there) = self.streams().stream(config.name(), deadline).await?
            {
                return Ok(there);
            }
            if self.has(Flaw::ForgetsOptions) {
                let fewer = StreamConfig::new(config.name(), config.subjects().to_vec());
                return self.streams().create_stream(&fewer, deadline).await;
            }
            self.streams().create_stream(config, deadline).await
        }
        .boxed()
    }

    fn update_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>> {
        self.streams().update_stream(config, deadline)
    }

    fn delete_stream<'a>(
        &'a self,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        if self.has(Flaw::KeepsDeletedStreams) {
            let there = self.streams().stream(name, deadline);
            return there.map(|there| Ok(there?.is_some())).boxed();
        }
        self.streams().delete_stream(name, deadline)
    }

    fn purge_stream<'a>(
        &'a self,
        name: &'a str,
        subject: Option<&'a str>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>> {
        let subject = subject.filter(|_| !self.has(Flaw::PurgesTooMuch));
        self.streams().purge_stream(name, subject, deadline)
    }

    fn message_from<'a>(
        &'a self,
        stream: &'a str,
        filter: &'a str,
        sequence: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Stored>>> {
        let sequence = sequence + u64::from(self.has(Flaw::SkipsAMessage) && sequence == 2);
        self.streams().message_from(stream, filter, sequence, deadline)
    }

    fn delete_message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        if self.has(Flaw::KeepsDeletedMessages) {
            return async { Ok(true) }.boxed();
        }
        self.streams().delete_message(stream, sequence, deadline)
    }

    fn consumer_names<'a>(
        &'a self,
        stream: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<String>>> {
        self.streams().consumer_names(stream, deadline)
    }

    fn delete_consumer<'a>(
        &'a self,
        stream: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>> {
        if self.has(Flaw::KeepsDeletedConsumers) {
            return async { Ok(true) }.boxed();
        }
        self.streams().delete_consumer(stream, name, deadline)
    }

    fn pipeline(
        &self,
        config: PipelineConfig,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Pipeline>>>> {
        self.streams().pipeline(config, deadline)
    }

    fn publish_atomic<'a>(
        &'a self,
        stream: &'a str,
        messages: Vec<OutboundMessage>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Ack>> {
        if !self.has(Flaw::TearsBatches) {
            return self.streams().publish_atomic(stream, messages, deadline);
        }
        async move {
            let mut last = Ack::new(stream, 0, false);
            for message in messages {
                last = self.inner.publish_acked(message, deadline).await?;
            }
            Ok(last)
        }
        .boxed()
    }

    fn consume<'a>(
        &'a self,
        config: &'a ConsumerConfig,
        mut overwrite: bool,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Consuming>> {
        let mut config = config.clone();
        match self.flaw {
            Flaw::DeliversTooEarly => config.ack_wait = config.ack_wait.min(MOMENT * 6),
            Flaw::NeverDeliversAgain => config.ack_wait *= 1000,
            Flaw::IgnoresTheMostInFlight => config.max_in_flight = 10_000,
            Flaw::IgnoresFilters => config.filters = vec![">".to_owned()],
            Flaw::IgnoresStarts => config.start = Start::All,
            Flaw::OverwritesUnasked => overwrite = true,
            Flaw::NeverOverwrites => overwrite = false,
            _ => {}
        }
        async move {
            let mut consuming = self.streams().consume(&config, overwrite, deadline).await?;
            if self.has(Flaw::HidesDifferences) {
                consuming.differences.clear();
            }
            let inner = consuming.deliveries;
            let flaw = self.flaw;
            let first = self.first.lock().unwrap().insert((config.stream, config.name));
            let idle = self.has(Flaw::FirstMemberTakesAll) && !first;
            let twice = VecDeque::new();
            let member = Member { inner, flaw, given: 0, twice, ended: false, idle };
            consuming.deliveries = Box::new(member);
            Ok(consuming)
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        receipt: &'a Subject,
        mut settlement: Settlement,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        match (self.flaw, &settlement) {
            (Flaw::IgnoresDone, Settlement::Done) if calls % 8 == 3 => return ignored(),
            (Flaw::IgnoresNever, Settlement::Never(_))
            | (Flaw::IgnoresWorking, Settlement::Working) => return ignored(),
            (Flaw::ForgetsWaits, Settlement::Again(_)) => {
                settlement = Settlement::Again(Duration::ZERO);
            }
            (Flaw::PutsOffTooLong, Settlement::Again(_)) => return ignored(),
            _ => {}
        }
        self.streams().settle(receipt, settlement, deadline)
    }
}

const MOMENT: Duration = Duration::from_millis(100);

fn ignored<'a>() -> BoxFuture<'a, Result<()>> {
    async { Ok(()) }.boxed()
}

/// A member with a flaw.
struct Member {
    inner: Box<dyn Deliveries>,
    flaw: Flaw,
    given: u64,
    twice: VecDeque<Delivery>,
    ended: bool,
    /// It gets nothing while another one is there.
    idle: bool,
}

impl Deliveries for Member {
    fn poll_next(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if let Some(delivery) = self.twice.pop_front() {
            return Poll::Ready(Some(delivery));
        }
        if self.idle {
            return Poll::Pending;
        }
        loop {
            let mut delivery = match self.inner.poll_next(room, cx) {
                Poll::Ready(Some(delivery)) => delivery,
                Poll::Ready(None) if self.flaw == Flaw::NeverEnds => return Poll::Pending,
                end => return end,
            };
            self.given += 1;
            match self.flaw {
                Flaw::LosesAMessage if self.given == 20 => continue,
                Flaw::GivesAMessageTwice if self.given == 20 => {
                    self.twice.push_back(delivery.clone());
                }
                Flaw::CountsWrong => delivery.deliveries = 1,
                Flaw::DrainLoses if self.ended => continue,
                _ => {}
            }
            return Poll::Ready(Some(delivery));
        }
    }

    fn drain(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        self.ended = true;
        self.inner.drain(deadline)
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        if self.flaw == Flaw::CloseLoses {
            return async {}.boxed();
        }
        self.inner.close()
    }

    fn events(&self) -> DeliveryEvents {
        if self.flaw == Flaw::SaysNothingOfRemaking {
            return DeliveryEvents::default();
        }
        self.inner.events()
    }
}

fn flawed(flaw: Flaw) -> Arc<dyn Driver> {
    Arc::new(Flawed {
        inner: MemoryDriver::default(),
        flaw,
        calls: AtomicU64::new(0),
        first: Mutex::default(),
    })
}

/// The flaws that a suite does not find. One driver without a flaw is not found, so the others are
/// not found for the load that they make together.
async fn missed<F: Future<Output = ()>>(
    flaws: &[Flaw],
    run: impl Fn(Arc<dyn Driver>) -> F,
) -> Vec<Flaw> {
    let run = &run;
    let all = [&[Flaw::None], flaws].concat().into_iter();
    let found = all.map(|flaw| async move {
        let found = AssertUnwindSafe(run(flawed(flaw))).catch_unwind().await.is_err();
        (!found).then_some(flaw)
    });
    stream::iter(found).buffer_unordered(40).filter_map(futures::future::ready).collect().await
}

#[tokio::test]
async fn flaws_of_streams_are_found() {
    let run = |driver| suite::run_streams(driver, &|config| config);
    let missed = missed(&STREAM_FLAWS, run).await;
    assert_eq!(missed, [Flaw::None], "these were not found");
}

#[tokio::test]
async fn flaws_of_durable_consumers_are_found() {
    let run = |driver| suite::run_durable(driver, &|config| config);
    let missed = missed(&DURABLE_FLAWS, run).await;
    assert_eq!(missed, [Flaw::None], "these were not found");
}

/// What a driver cannot do it refuses, and passes.
#[tokio::test]
async fn a_stream_of_a_driver_may_lack_options() {
    let driver = flawed(Flaw::None);
    let deadline = Instant::now() + Duration::from_secs(5);
    let streams = driver.streams().unwrap();
    let fast = StreamConfig::new("FAST", ["fast"]).fast_ingest(true);
    let refused = streams.create_stream(&fast, deadline).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    let copies = StreamConfig::new("COPIES", ["copies"]).replicas(3);
    let refused = streams.create_stream(&copies, deadline).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    assert!(streams.stream_names(deadline).await.unwrap().is_empty());
}
