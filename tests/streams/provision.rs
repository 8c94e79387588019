//! Streams made once and checked ever after.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use nats_connector::pubsub::PubSub;
use nats_connector::streams::{Retention, Storage, StreamConfig};
use nats_connector::{Connector, ErrorKind};
use testkit::{Server, Version, require};

use crate::{connect, connect_to};

const HOUR: Duration = Duration::from_secs(3600);

/// The same on both drivers: a server's, and the one in this process.
async fn drivers(server: &Server) -> [Connector; 2] {
    [connect(server).await, Connector::memory()]
}

fn told(differences: &[nats_connector::Difference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_made_then_checked_then_changed_where_that_is_asked_for() {
    let server = Server::builder().jetstream().start().await;
    for connector in drivers(&server).await {
        made_checked_changed(connector).await;
    }
}

async fn made_checked_changed(connector: Connector) {
    let pubsub = connector.pubsub();
    let config = || StreamConfig::new("ORDERS", ["orders.>"]).max_age(HOUR);
    let made = pubsub.stream(config()).await.unwrap();
    assert!(made.created && made.differences.is_empty());
    assert_eq!(config().differences(&made.status.config), []);
    let found = pubsub.stream(config()).await.unwrap();
    assert!(!found.created && found.differences.is_empty());
    assert_eq!(found.status, made.status);

    let other = || {
        StreamConfig::new("ORDERS", ["orders.>", "invoices.>"])
            .max_age(2 * HOUR)
            .storage(Storage::Memory)
            .retention(Retention::WorkQueue)
    };
    let differs = pubsub.stream(other()).await.unwrap();
    assert!(!differs.created);
    let fixed = ["retention is limits, not work queue", "storage is file, not memory"];
    assert_eq!(
        told(&differs.differences),
        [
            "subjects is orders.>, not invoices.>, orders.>",
            fixed[0],
            fixed[1],
            "max_age is 1h, not 2h",
        ]
    );
    assert_eq!(differs.status, made.status, "it was changed unasked");

    let changed = pubsub.stream(other()).update().await.unwrap();
    assert_eq!(told(&changed.differences), fixed);
    assert_eq!(changed.status.config.subjects(), ["orders.>", "invoices.>"]);
    let again = pubsub.stream(other()).update().await.unwrap();
    assert_eq!(told(&again.differences), fixed);
    assert_eq!(again.status, changed.status);
    // Nothing was made beside it.
    assert_eq!(pubsub.streams().names().await.unwrap(), ["ORDERS"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_make_a_stream_one_does_and_all_succeed() {
    for version in [Version::V2_15, Version::V2_10] {
        if require(version) {
            race(version).await;
        }
    }
}

async fn race(version: Version) {
    let server = Server::builder().jetstream().version(version).start().await;
    let connectors = join_all((0..4).map(|_| connect(&server))).await;
    for round in 0..5 {
        let calls = connectors.iter().flat_map(|connector| {
            (0..4).map(move |_| {
                let config = StreamConfig::new(format!("S{round}"), [format!("s.{round}.>")]);
                connector.pubsub().stream(config.storage(Storage::Memory))
            })
        });
        let all: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        let made = all.iter().filter(|stream| stream.created).count();
        assert_eq!(made, 1, "{version}, round {round}");
        assert!(all.iter().all(|stream| stream.differences.is_empty()));
        assert!(all.iter().all(|stream| stream.status.created == all[0].status.created));
    }
    // Those that buckets are made of are streams, too.
    connectors[0].kv().bucket("b").set("k", &1).await.unwrap();
    let names = connectors[0].streams().names().await.unwrap();
    assert_eq!(names, ["KV_b", "S0", "S1", "S2", "S3", "S4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cross_in_one_process_all_last() {
    let server = Server::builder().jetstream().start().await;
    let connectors = [connect(&server).await, connect(&server).await];
    let streams = connectors[0].streams();
    let config = || StreamConfig::new("S", ["s.>"]);
    connectors[0].pubsub().stream(config()).await.unwrap();
    for round in 1..=20 {
        let changes = [
            config().max_age(round * HOUR),
            config().max_messages(u64::from(round)),
            config().max_bytes(u64::from(round) << 20),
            config().description(round.to_string()),
        ];
        join_all(changes.clone().map(|change| streams.update(change)))
            .await
            .into_iter()
            .for_each(|done| drop(done.unwrap()));
        let now = streams.status("S").await.unwrap().unwrap().config;
        for wanted in &changes {
            assert_eq!(wanted.differences(&now), [], "round {round}");
        }
        // Of those that cross from two connections, each lasts until it is told.
        let changes = [config().max_age(HOUR), config().max_messages(9)];
        let calls = connectors.iter().zip(changes.clone());
        let calls = calls.map(|(connector, change)| connector.streams().update(change));
        for (done, wanted) in join_all(calls).await.into_iter().zip(&changes) {
            assert_eq!(wanted.differences(&done.unwrap().config), [], "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handles_prefix_stands_before_subjects() {
    let server = Server::builder().jetstream().start().await;
    for connector in drivers(&server).await {
        prefixed(connector).await;
    }
}

async fn prefixed(connector: Connector) {
    let pubsub = connector.pubsub().with_prefix("app.");
    let made = pubsub.stream(StreamConfig::new("A", ["a.>", "b"])).await.unwrap();
    assert_eq!(made.status.config.subjects(), ["app.a.>", "app.b"]);
    assert_eq!(pubsub.stream(StreamConfig::new("A", ["b", "a.>"])).await.unwrap().differences, []);
    let bare = pubsub.stream(StreamConfig::new("BARE", ["a.>"])).ignore_prefix().await.unwrap();
    assert_eq!(bare.status.config.subjects(), ["a.>"]);

    let streams = pubsub.streams();
    let wider = streams.update(StreamConfig::new("A", ["a.>", "c"])).await.unwrap();
    assert_eq!(wider.config.subjects(), ["app.a.>", "app.c"]);
    let as_it_is = StreamConfig::new("BARE", ["a.>", "d"]);
    let wider = streams.update(as_it_is).ignore_prefix().await.unwrap();
    assert_eq!(wider.config.subjects(), ["a.>", "d"]);

    for topic in ["a.1", "a.2", "c"] {
        pubsub.publish(topic, &0).jetstream().await.unwrap();
    }
    assert_eq!(streams.purge("A").topic("a.1").await.unwrap(), 1);
    assert_eq!(streams.purge("A").topic("a.*").ignore_prefix().await.unwrap(), 0);
    assert_eq!(streams.purge("A").topic("app.a.*").ignore_prefix().await.unwrap(), 1);
    assert_eq!(streams.purge("A").await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_schedules_keeps_a_subject_for_them() {
    let server = Server::builder().jetstream().start().await;
    for connector in drivers(&server).await {
        scheduled(connector).await;
    }
}

async fn scheduled(connector: Connector) {
    let pubsub = connector.pubsub().with_prefix("app.");
    let config = || StreamConfig::new("LATER", ["orders.>"]);
    let made = pubsub.stream(config().schedules(true)).await.unwrap();
    let subjects = ["app.orders.>", "app.schedules.LATER.>"];
    assert_eq!(made.status.config.subjects(), subjects);
    assert_eq!(made.status.config.subjects(), subjects);
    // Who says nothing of schedules leaves them, also with other subjects.
    assert_eq!(pubsub.stream(config()).await.unwrap().differences, []);
    let more = StreamConfig::new("LATER", ["orders.>", "more"]);
    let subjects = ["app.orders.>", "app.more", "app.schedules.LATER.>"];
    let changed = pubsub.stream(more).update().await.unwrap();
    assert_eq!(changed.status.config.subjects(), subjects);
    let less = pubsub.streams().update(config()).await.unwrap();
    assert_eq!(less.config.subjects(), ["app.orders.>", "app.schedules.LATER.>"]);

    // A stream that is there is given them.
    pubsub.stream(StreamConfig::new("LATE", ["late"])).await.unwrap();
    let on = StreamConfig::new("LATE", ["late"]).schedules(true);
    let on = pubsub.stream(on).update().await.unwrap();
    assert_eq!(on.differences, []);
    assert_eq!(on.status.config.subjects(), ["app.late", "app.schedules.LATE.>"]);
    // They cannot be switched off.
    let off = pubsub.stream(StreamConfig::new("LATE", ["late"]).schedules(false)).update().await;
    assert!(told(&off.unwrap().differences).contains(&"schedules is true, not false".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_asked_for_changed_emptied_and_deleted() {
    let server = Server::builder().jetstream().start().await;
    for connector in drivers(&server).await {
        asked_changed_deleted(connector).await;
    }
}

async fn asked_changed_deleted(connector: Connector) {
    let (pubsub, streams) = (connector.pubsub(), connector.streams());
    assert_eq!(streams.status("S").await.unwrap(), None);
    assert_eq!(streams.names().await.unwrap(), [""; 0]);
    let created = pubsub.stream(StreamConfig::new("S", ["s.>"])).await.unwrap().status.created;
    pubsub.publish("s.1", &1).jetstream().await.unwrap();
    pubsub.publish("s.2", &2).jetstream().await.unwrap();
    let status = streams.status("S").await.unwrap().unwrap();
    assert_eq!((status.messages, status.first_sequence, status.last_sequence), (2, 1, 2));
    assert!(status.bytes > 0 && status.created == created && status.consumers == 0);
    assert_eq!(streams.names().await.unwrap(), ["S"]);
    let changed = streams.update(StreamConfig::new("S", [""; 0]).max_messages(1)).await.unwrap();
    assert_eq!((changed.messages, changed.first_sequence), (1, 2));
    assert_eq!(changed.config.subjects(), ["s.>"]);
    assert_eq!(streams.purge("S").await.unwrap(), 1);
    let empty = streams.status("S").await.unwrap().unwrap();
    assert_eq!((empty.messages, empty.first_sequence, empty.last_sequence), (0, 3, 2));
    assert!(streams.delete("S").await.unwrap());
    assert!(!streams.delete("S").await.unwrap());

    let update = streams.update(StreamConfig::new("S", ["s.>"])).await.unwrap_err();
    let purge = streams.purge("S").await.unwrap_err();
    for (error, operation) in [(update, "stream update: "), (purge, "stream purge: ")] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.to_string().starts_with(operation), "{error}");
        assert_eq!(error.context("stream"), Some("S"));
    }
}

/// Files of a deleted stream are removed later; a new one of its name is not to have its messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_and_made_again_is_empty() {
    let server = Server::builder().jetstream().start().await;
    for connector in drivers(&server).await {
        deleted_and_made_again(connector).await;
    }
}

async fn deleted_and_made_again(connector: Connector) {
    let pubsub = connector.pubsub();
    for round in 0..5 {
        let made = pubsub.stream(StreamConfig::new("S", ["s"])).await.unwrap();
        assert!(made.created, "round {round}");
        assert_eq!(made.status.messages, 0, "round {round}");
        for n in 0..200 {
            pubsub.publish("s", &n).await.unwrap();
        }
        pubsub.publish("s", &"last").jetstream().await.unwrap();
        assert!(pubsub.streams().delete("S").await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_without_streams_says_so() {
    let pubsub = PubSub::new(crate::core_only::CoreOnly::default());
    let stream = pubsub.stream(StreamConfig::new("S", ["s"])).await.unwrap_err();
    let streams = pubsub.streams();
    let names = streams.names().await.unwrap_err();
    let status = streams.status("S").await.unwrap_err();
    let delete = streams.delete_consumer("S", "C").await.unwrap_err();
    for error in [stream, names, status, delete] {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("the driver core has no streams"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_before_it_is_sent() {
    // Nobody listens there: what is refused was not sent.
    let server = Server::builder().start().await;
    let pubsub = connect_to(&server.url()).await.pubsub();
    let streams = pubsub.streams();
    let wrong = [
        pubsub.stream(StreamConfig::new("a.b", ["s"])).await.unwrap_err(),
        pubsub.stream(StreamConfig::new("S", [""; 0])).await.unwrap_err(),
        pubsub.stream(StreamConfig::new("S", ["s.>", "s.a"])).await.unwrap_err(),
        pubsub.stream(StreamConfig::new("S", ["s"]).replicas(9)).await.unwrap_err(),
        streams.update(StreamConfig::new("S", ["s s"])).await.unwrap_err(),
        streams.status("*").await.unwrap_err(),
        streams.delete("").await.unwrap_err(),
        streams.purge("S").topic("a..b").await.unwrap_err(),
        streams.purge(">").await.unwrap_err(),
        streams.consumers("a b").await.unwrap_err(),
        streams.delete_consumer("S", "a.b").await.unwrap_err(),
    ];
    for error in wrong {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.context("stream").is_some(), "{error}");
    }
    let unserved = pubsub.stream(StreamConfig::new("S", ["s"])).await.unwrap_err();
    assert_eq!(unserved.kind(), ErrorKind::Unavailable, "{unserved}");
    assert!(unserved.to_string().contains("JetStream does not answer"), "{unserved}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_free_functions_use_the_default_driver() {
    use nats_connector::pubsub;
    let early = pubsub::streams();
    let config = || StreamConfig::new("S", ["s"]);
    assert_eq!(pubsub::stream(config()).await.unwrap_err().kind(), ErrorKind::NotRegistered);
    assert_eq!(early.names().await.unwrap_err().kind(), ErrorKind::NotRegistered);
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    pubsub::set_default_driver(connector.pubsub());
    assert!(pubsub::stream(config()).await.unwrap().created);
    assert_eq!(early.names().await.unwrap(), ["S"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_others_stays() {
    let server = Server::builder().jetstream().start().await;
    let connector = connect(&server).await;
    let theirs = async_nats::jetstream::stream::Config {
        name: "S".to_owned(),
        subjects: vec!["s".to_owned()],
        metadata: [("owner".to_owned(), "them".to_owned())].into(),
        ..Default::default()
    };
    connector.jetstream().unwrap().create_stream(theirs).await.unwrap();
    let change = StreamConfig::new("S", ["s"]).max_messages(5);
    let changed = connector.pubsub().stream(change).update().await.unwrap();
    assert!(!changed.created && changed.differences.is_empty());
    let stream = connector.jetstream().unwrap().get_stream("S").await.unwrap();
    let metadata: BTreeMap<_, _> =
        stream.cached_info().config.metadata.clone().into_iter().collect();
    assert_eq!(metadata.get("owner").map(String::as_str), Some("them"));
}
