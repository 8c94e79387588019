//! What the driver does by itself: single messages, pages of names, options that are kept.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use nats_connector::ErrorKind;
use nats_connector::pubsub::driver::Streams;
use nats_connector::streams::{Discard, Retention, Storage, StreamConfig};
use testkit::{Server, Version, require, size};

use crate::{connect, soon};

#[tokio::test(flavor = "multi_thread")]
async fn every_option_is_made_told_and_changed() {
    let server = Server::builder().jetstream().start().await;
    let driver = connect(&server).await.pubsub().driver().unwrap();
    let streams = driver.streams().unwrap();
    let config = StreamConfig::new("ALL", ["all.>", "more.*"])
        .description("everything")
        .retention(Retention::WorkQueue)
        .storage(Storage::Memory)
        .replicas(1)
        .max_age(Duration::from_secs(3600))
        .max_bytes(1 << 20)
        .max_messages(1000)
        .max_messages_per_subject(10)
        .max_message_size(1000)
        .discard(Discard::New)
        .duplicate_window(Duration::from_secs(10))
        .message_ttl(true)
        .fast_ingest(true)
        .atomic_publish(true);
    let made = streams.create_stream(&config, soon()).await.unwrap();
    assert_eq!(made.config, config.clone().compression(false).schedules(false));
    assert!(made.created.is_some());
    assert_eq!((made.messages, made.first_sequence, made.last_sequence), (0, 0, 0));
    assert_eq!(streams.stream("ALL", soon()).await.unwrap(), Some(made));

    let less = StreamConfig::new("ALL", ["all.>"]).max_age(Duration::ZERO).max_bytes(0);
    let changed = streams.update_stream(&less, soon()).await.unwrap().config;
    assert_eq!(
        changed,
        StreamConfig::new("ALL", ["all.>"])
            .description("everything")
            .retention(Retention::WorkQueue)
            .storage(Storage::Memory)
            .replicas(1)
            .max_age(Duration::ZERO)
            .max_bytes(0)
            .max_messages(1000)
            .max_messages_per_subject(10)
            .max_message_size(1000)
            .discard(Discard::New)
            .duplicate_window(Duration::from_secs(10))
            .compression(false)
            .message_ttl(true)
            .schedules(false)
            .fast_ingest(true)
            .atomic_publish(true)
    );
    // The window for duplicates cannot be longer than messages live.
    let short = StreamConfig::new("ALL", ["all.>"]).max_age(Duration::from_secs(5));
    let short = streams.update_stream(&short, soon()).await.unwrap().config;
    let window = StreamConfig::new("ALL", ["all.>"]).duplicate_window(Duration::from_secs(5));
    assert_eq!(window.differences(&short), []);

    let schedules = StreamConfig::new("LATER", ["later.>"]).schedules(true).compression(true);
    let later = streams.create_stream(&schedules, soon()).await.unwrap().config;
    assert_eq!(schedules.differences(&later), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_keeps_what_this_library_does_not_know() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let jetstream = connector.jetstream().unwrap();
    let mut theirs = Config {
        name: "THEIRS".to_owned(),
        subjects: vec!["theirs.>".to_owned()],
        max_consumers: 7,
        deny_delete: true,
        ..Config::default()
    };
    theirs.metadata.insert("owner".to_owned(), "somebody".to_owned());
    jetstream.create_stream(theirs).await.unwrap();
    let driver = connector.pubsub().driver().unwrap();
    let change = StreamConfig::new("THEIRS", ["theirs.>", "ours"]).max_messages(5);
    let changed = driver.streams().unwrap().update_stream(&change, soon()).await.unwrap();
    assert_eq!(change.differences(&changed.config), []);
    let now = jetstream.get_stream("THEIRS").await.unwrap().get_info().await.unwrap().config;
    assert_eq!((now.max_consumers, now.deny_delete, now.max_messages), (7, true, 5));
    assert_eq!(now.metadata["owner"], "somebody");
}

#[tokio::test(flavor = "multi_thread")]
async fn single_messages_are_read_and_deleted() {
    for version in [Version::V2_15, Version::V2_10, Version::Debian29] {
        if require(version) {
            read_and_delete(version).await;
        }
    }
}

async fn read_and_delete(version: Version) {
    let server = Server::builder().jetstream().version(version).start().await;
    let pubsub = connect(&server).await.pubsub();
    let driver = pubsub.driver().unwrap();
    let streams = driver.streams().unwrap();
    streams.create_stream(&StreamConfig::new("S", ["s.>"]), soon()).await.unwrap();
    for n in 1..=4 {
        let topic = if n % 2 == 0 { "s.even" } else { "s.odd" };
        pubsub.publish(topic, &n).header("N", &n.to_string()).jetstream().await.unwrap();
    }
    pubsub.publish_bytes("s.bare", "").jetstream().await.unwrap();

    let at = async |filter: &'static str, sequence| {
        let found = streams.message_from("S", filter, sequence, soon()).await.unwrap();
        found.map(|found| found.sequence)
    };
    assert_eq!(at("s.even", 0).await, Some(2));
    assert_eq!(at("s.even", 3).await, Some(4));
    assert_eq!(at("s.*", 3).await, Some(3));
    assert_eq!(at(">", 5).await, Some(5));
    assert_eq!(at("s.even", 5).await, None, "{version}");
    assert_eq!(at(">", 6).await, None, "{version}");
    assert_eq!(at("elsewhere", 1).await, None);

    let second = streams.message_from("S", "s.even", 1, soon()).await.unwrap().unwrap();
    assert_eq!(second.message.subject.as_str(), "s.even");
    assert_eq!(second.message.reply, None);
    assert_eq!(second.message.payload, "2");
    assert_eq!(second.message.headers.unwrap().get("N").unwrap().as_str(), "2");
    assert!(second.stored.elapsed().unwrap() < Duration::from_secs(60));
    let bare = streams.message_from("S", "s.bare", 1, soon()).await.unwrap().unwrap();
    assert!(bare.message.payload.is_empty() && bare.message.headers.is_none());

    assert!(streams.delete_message("S", 2, soon()).await.unwrap());
    assert!(!streams.delete_message("S", 2, soon()).await.unwrap(), "{version}");
    assert!(!streams.delete_message("S", 99, soon()).await.unwrap(), "{version}");
    assert_eq!(at("s.even", 1).await, Some(4));

    assert_eq!(streams.purge_stream("S", Some("s.odd"), soon()).await.unwrap(), 2);
    assert_eq!(streams.purge_stream("S", None, soon()).await.unwrap(), 2);
    assert_eq!(at(">", 1).await, None);

    assert!(streams.delete_stream("S", soon()).await.unwrap());
    assert!(!streams.delete_stream("S", soon()).await.unwrap());
    let gone = [
        streams.message_from("S", ">", 1, soon()).await.err(),
        streams.delete_message("S", 1, soon()).await.err(),
        streams.purge_stream("S", None, soon()).await.err(),
        streams.update_stream(&StreamConfig::new("S", ["s.>"]), soon()).await.err(),
    ];
    for error in gone {
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{version}: {error}");
        assert_eq!(error.context("stream"), Some("S"), "{version}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_listed_page_by_page_and_found_by_subject() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let driver = connector.pubsub().driver().unwrap();
    let streams = driver.streams().unwrap();
    // A page of the server has 1,024 names.
    let count = size(1_030, 5_000);
    let make = |n: usize| async move {
        let config = StreamConfig::new(format!("N{n:04}"), [format!("n.{n:04}.>")]);
        driver_streams(&config, streams).await;
    };
    futures::StreamExt::for_each_concurrent(futures::stream::iter(0..count), 32, make).await;
    let names = streams.stream_names(soon()).await.unwrap();
    let expected: Vec<String> = (0..count).map(|n| format!("N{n:04}")).collect();
    assert_eq!(names, expected);

    let of = async |subject: &'static str| streams.stream_of(subject, soon()).await.unwrap();
    assert_eq!(of("n.0007.a").await.as_deref(), Some("N0007"));
    assert_eq!(of("n.0007.>").await.as_deref(), Some("N0007"));
    assert_eq!(of("n.*.a").await.as_deref(), Some("N0000"));
    assert_eq!(of("n.0007").await, None);
}

async fn driver_streams(config: &StreamConfig, streams: &dyn Streams) {
    streams.create_stream(&config.clone().storage(Storage::Memory), soon()).await.unwrap();
}
