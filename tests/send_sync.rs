//! Every public type can be shared between threads, and every call can be spawned. Compiling is
//! the test.

use std::time::Duration;

use nats_connector::connector::{Capabilities, DrainReport, Feature, Health, Register, State};
use nats_connector::counters::{Counters, CountersConfig};
use nats_connector::kv::{self, BucketConfig, Kv, Storage};
use nats_connector::layers::{Dedupe, DedupeStats, Retry, Timeout, Traced};
use nats_connector::pubsub::{
    self, Ack, Message, Messages, PubSub, Subscription, SubscriptionStats, driver,
};
use nats_connector::shutdown::{HookOutcome, ShutdownReport};
use nats_connector::{
    Auth, Backoff, Connector, Error, ErrorKind, Format, Key, KeyCodec, MaxReconnect, Secret,
    Serializer, Settings, SettingsBuilder, Table, Tls, WhenDisconnected, register, register_with,
    serializer, shutdown,
};

fn shared<T: Send + Sync + 'static>() {}

fn spawned<T: Send + 'static>(_: T) {}

#[test]
fn types_are_send_and_sync() {
    shared::<(Connector, Register, Capabilities, Feature, Health, State, DrainReport)>();
    shared::<(PubSub, Message, Messages, Subscription, SubscriptionStats, Ack)>();
    shared::<(pubsub::nats::NatsDriver, pubsub::memory::MemoryDriver, Box<dyn pubsub::Driver>)>();
    shared::<(driver::Capabilities, driver::InboundMessage, driver::OutboundMessage)>();
    shared::<(Kv, BucketConfig, Storage, kv::MemoryDriver, Box<dyn kv::Driver>)>();
    shared::<(kv::Many<u32>, kv::SetMany, kv::ReadMany<u32>, kv::Increment, kv::Transaction)>();
    shared::<(kv::Capabilities, kv::Key<'static>, kv::driver::Entry, kv::driver::Value)>();
    shared::<(Counters, CountersConfig)>();
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
    spawned(register_with(settings.clone()).into_future());
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
    spawned(pubsub.messages("a").queue("q").timeout(second));
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

    spawned(async { shutdown::wait().await });
    spawned(shutdown::run());
    spawned(shutdown::requested());
}
