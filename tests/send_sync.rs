//! Every public type can be shared between threads, and every call can be spawned. Compiling is
//! the test.

use std::time::Duration;

use nats_connector::connector::{Capabilities, DrainReport, Feature, Health, Register, State};
use nats_connector::counters::{Counters, CountersConfig};
use nats_connector::kv::{self, BucketConfig, Kv, Storage};
use nats_connector::layers::{Dedupe, DedupeStats, Retry, Timeout, Traced};
use nats_connector::objects::{self, Objects};
use nats_connector::pubsub::{
    self, Ack, DeadLetter, DeadLetterList, DeadLetters, DeliveryInfo, Message, Messages, Outcome,
    Outgoing, PubSub, PublishProgress, PublishReport, ReplayReport, Scheduled, Start, Subscription,
    SubscriptionStats, Way, driver,
};
use nats_connector::rpc::{
    self, Client, Discover, Endpoint, Group, Method, Request, Response, Rpc, RpcError, Service,
    ServiceBuilder, ServiceConfig,
};
use nats_connector::shutdown::{HookOutcome, ShutdownReport};
use nats_connector::streams::{
    Discard, ProvisionedStream, Retention, StreamConfig, StreamStatus, Streams,
};
use nats_connector::{
    Auth, Backoff, Connector, Difference, Error, ErrorKind, Format, Key, KeyCodec, MaxReconnect,
    Secret, Serializer, Settings, SettingsBuilder, Table, Tls, WhenDisconnected, register,
    register_with, serializer, shutdown,
};

fn shared<T: Send + Sync + 'static>() {}

fn moved<T: Send + 'static>() {}

fn spawned<T: Send + 'static>(_: T) {}

#[test]
fn types_are_send_and_sync() {
    shared::<(Connector, Register, Capabilities, Feature, Health, State, DrainReport)>();
    shared::<(PubSub, Message, Messages, Subscription, SubscriptionStats, Ack)>();
    shared::<(pubsub::nats::NatsDriver, pubsub::memory::MemoryDriver, Box<dyn pubsub::Driver>)>();
    shared::<(driver::Capabilities, driver::InboundMessage, driver::OutboundMessage)>();
    shared::<(Streams, StreamConfig, StreamStatus, ProvisionedStream, Retention, Discard)>();
    shared::<(Difference, Start, Outcome, DeliveryInfo, Scheduled)>();
    shared::<(DeadLetters, DeadLetter, ReplayReport, pubsub::ReplayFailure)>();
    shared::<(PublishReport, PublishProgress, pubsub::PublishFailure, Way, Outgoing)>();
    shared::<(driver::ConsumerConfig, driver::Delivery, driver::DeliveryEvents, driver::Stored)>();
    shared::<(driver::Settlement, driver::PipelineConfig, driver::Acked, driver::Fate)>();
    shared::<(driver::Answer, Box<dyn driver::Streams>)>();
    moved::<(DeadLetterList, driver::Consuming)>();
    moved::<(Box<dyn driver::Deliveries>, Box<dyn driver::Pipeline>)>();
    shared::<(Kv, BucketConfig, Storage, kv::MemoryDriver, Box<dyn kv::Driver>)>();
    shared::<(kv::Many<u32>, kv::SetMany, kv::ReadMany<u32>, kv::Increment, kv::Transaction)>();
    shared::<(kv::Capabilities, kv::Key<'static>, kv::driver::Entry, kv::driver::Value)>();
    shared::<(Objects, objects::BucketConfig, objects::BucketStatus, objects::Provisioned)>();
    shared::<(objects::ObjectInfo, objects::Link, objects::Event, objects::Capabilities)>();
    shared::<(objects::MemoryDriver, Box<dyn objects::Driver>, objects::driver::Draft)>();
    moved::<(objects::ObjectReader, objects::Listing, objects::Watcher)>();
    moved::<(Box<dyn objects::driver::Upload>, objects::driver::Download)>();
    shared::<(Counters, CountersConfig)>();
    shared::<(Rpc, Service, ServiceBuilder, ServiceConfig, Client, Discover, Endpoint, Group)>();
    shared::<(Method<u32, u32>, Request<u32>, Response<u32>, RpcError, rpc::ServiceHealth)>();
    shared::<(rpc::RawCall, rpc::Next, rpc::Reply, rpc::Served, rpc::Kind)>();
    shared::<(rpc::ServicePing, rpc::ServiceInfo, rpc::ServiceStats)>();
    shared::<(Timeout, Retry, Dedupe, DedupeStats, Traced, Backoff)>();
    shared::<(Error, ErrorKind, Serializer, ShutdownReport, HookOutcome)>();
    shared::<(Settings, SettingsBuilder, Table, Key, KeyCodec, Secret, Auth, Tls)>();
    shared::<(MaxReconnect, WhenDisconnected, Format, Box<dyn serializer::Format>)>();
}

#[test]
fn calls_can_be_spawned() {
    async fn ignore(_: Message) {}
    let settings = Settings::builder().build().unwrap();
    let connector = Connector::memory();
    let (pubsub, kv) = (connector.pubsub(), connector.kv());
    let hits = connector.counters("hits");
    let second = Duration::from_secs(1);

    spawned(register().with_signals().into_future());
    spawned(register_with(settings.clone()).apply_streams().into_future());
    spawned(connector.streams().apply(&settings).update());
    spawned(async move { Connector::connect(&settings).await });
    spawned(Connector::from_settings());
    let again = connector.clone();
    spawned(async move { (again.capabilities().await, again.health().await, again.drain().await) });

    spawned(pubsub.publish("a", &1).header("b", "c").timeout(second).into_future());
    spawned(pubsub.publish_bytes("a", "x").jetstream().timeout(second));
    spawned(pubsub.request("a", &1).timeout(second));
    spawned(pubsub.subscribe("a", ignore).queue("q").concurrency(2).timeout(second));
    let layered = pubsub.subscribe("a", ignore).layer(Timeout::new(second));
    let layered = layered.layer(Retry::times(2)).layer(Dedupe::new(kv.clone(), "a"));
    spawned(layered.layer(Traced::new("a")).durable("a").timeout(second));
    let durable =
        pubsub.subscribe("a", ignore).durable("a").ordered_by(|m| m.subject().to_string());
    spawned(durable.backoff_by(|_| Duration::ZERO).dead_letters("b").overwrite());
    spawned(pubsub.messages("a").queue("q").timeout(second));

    spawned(pubsub.stream(StreamConfig::new("A", ["a"])).update().timeout(second));
    let streams = pubsub.streams();
    spawned(streams.status("A"));
    spawned(streams.names());
    spawned(streams.update(StreamConfig::new("A", ["a"])));
    spawned(streams.purge("A").topic("a"));
    spawned(streams.delete("A"));
    spawned(streams.consumers("A"));
    spawned(streams.delete_consumer("A", "a"));

    spawned(pubsub.publish("a", &1).after(second).name("b").ttl(second).timeout(second));
    spawned(pubsub.publish("a", &1).cron("@daily").time_zone("Europe/Berlin"));
    spawned(pubsub.cancel_schedule("a", "b"));
    let many = [pubsub.publish("a", &1), pubsub.publish("a", &2)];
    spawned(pubsub.publish_many(many).each(|_, _| {}).progress(second, |_| {}));
    let stream = futures::stream::empty::<Outgoing>();
    spawned(pubsub.publish_stream(stream).all_or_nothing().timeout(second));

    let dead = pubsub.dead_letters("a").matching(|letter| letter.deliveries() > 1);
    spawned(dead.list());
    spawned(dead.count());
    spawned(dead.get(1));
    spawned(dead.replay(1).to("b"));
    spawned(dead.replay_all().timeout(second));
    spawned(dead.discard(1));
    spawned(dead.discard_all());
    spawned(async move {
        let mut list = dead.list().await?;
        futures::TryStreamExt::try_next(&mut list).await
    });

    spawned(pubsub.flush().timeout(second));
    spawned(async move {
        let subscription = pubsub.subscribe("a", ignore).await?;
        subscription.drain().await?;
        subscription.unsubscribe().await
    });

    spawned(kv.set("a", &1));
    spawned(kv.set_raw("a", "x"));
    spawned(kv.get::<u32>("a"));
    spawned(kv.get_raw("a"));
    spawned(kv.replace("a", &1));
    spawned(kv.exists("a"));
    spawned(kv.delete("a"));
    spawned(kv.create_bucket(BucketConfig::new("a")));
    spawned(kv.capabilities());
    spawned(kv.increment("a", 1).ttl_on_create(second));
    spawned(kv.decrement("a", 1).timeout(second));
    spawned(kv.get_many::<u32>(["a"]).consistent());
    spawned(kv.get_many_raw(["a"]));
    spawned(kv.set_many([("a", &1)]).ttl(second));
    spawned(kv.delete_many(["a"]));
    spawned(kv.get_all::<u32>().consistent());
    spawned(kv.get_all_matching::<u32>("a*").stream());
    spawned(kv.delete_matching("a*"));
    spawned(kv.flush());
    spawned(kv.get_or_load("a", || async { Ok::<u32, Error>(1) }).ttl(second));
    spawned(kv.transaction().set("a", &1).ttl(second).delete("b"));
    spawned(hits.increment("a", 1));
    spawned(hits.get("a").consistent());
    spawned(hits.get_many(["a"]));
    spawned(hits.keys());
    spawned(hits.reset_all());

    let (rpc, method) = (connector.rpc(), Method::<u32, u32>::json("a"));
    let echo = |request: Request<u32>| async move { Ok::<_, RpcError>(request.into_inner()) };
    let service = rpc.service(ServiceConfig::new("a")).endpoint(Endpoint::unary(&method, echo));
    spawned(service.serve().timeout(second));
    let client = rpc.client(ServiceConfig::new("a"));
    spawned(client.call(&method, 1).header("a", "b").timeout(second));
    spawned(rpc.discover().services().quiet(second));
    spawned(rpc.discover().infos());
    spawned(rpc.discover().stats().timeout(second));

    let objects = connector.objects();
    spawned(objects.put("a", &1).metadata("b", "c").timeout(second));
    spawned(objects.put_bytes("a", "x").progress(|_, _| {}));
    spawned(objects.put_reader("a", tokio::io::empty()).header("b", "c"));
    spawned(objects.put_file("a", "file"));
    spawned(objects.get::<u32>("a").consistent());
    spawned(objects.get_bytes("a").range(1..));
    spawned(objects.reader("a").timeout(second));
    spawned(objects.get_to("a", tokio::io::sink()));
    spawned(objects.info("a"));
    spawned(objects.exists("a"));
    spawned(objects.list());
    spawned(objects.watch());
    spawned(objects.delete("a"));
    spawned(objects.update("a").description("b"));
    spawned(objects.rename("a", "b"));
    spawned(objects.link("a", "b").in_bucket("c"));
    spawned(objects.linked_bucket("a"));
    spawned(objects.create_bucket("a"));
    spawned(objects.get_or_create_bucket("a"));
    spawned(objects.seal_bucket("a"));
    spawned(objects.purge_orphans(second));
    spawned(async move {
        let mut all = objects.list().await?;
        futures::TryStreamExt::try_next(&mut all).await
    });

    spawned(async { shutdown::wait().await });
    spawned(shutdown::run());
    spawned(shutdown::requested());
}
