//! How consumers are made, found, compared and changed; old servers; permissions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nats_connector::ErrorKind;
use nats_connector::pubsub::driver::{Settlement, Start};
use serde_json::json;
use testkit::{Permissions, Server, Version, eventually, require};

use super::{Bench, CONSUMER, LONG, STREAM, all_of, config, next, next_until, soon};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    let error = bench.streams().consume(&config(), false, soon()).await.unwrap_err();
    assert!(error.is_not_found() && error.context("stream") == Some(STREAM), "{error}");
    assert!(!bench.streams().delete_consumer(STREAM, CONSUMER, soon()).await.unwrap());
    bench.make_stream(1).await;
    assert!(!bench.streams().delete_consumer(STREAM, CONSUMER, soon()).await.unwrap());
    assert!(bench.streams().consumer_names(STREAM, soon()).await.unwrap().is_empty());
    for name in ["b", "a"] {
        let mut config = config();
        config.name = name.to_owned();
        bench.join(&config).await;
    }
    assert_eq!(bench.streams().consumer_names(STREAM, soon()).await.unwrap(), ["a", "b"]);
    assert!(bench.streams().delete_consumer(STREAM, "a", soon()).await.unwrap());
    assert_eq!(bench.streams().consumer_names(STREAM, soon()).await.unwrap(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_found_consumer_is_compared_and_changed_only_when_asked() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let found = json!({ "stream_name": STREAM, "config": {
        "durable_name": CONSUMER, "name": CONSUMER, "ack_policy": "explicit",
        "description": "of somebody else", "max_deliver": 7, "max_waiting": 99,
        "filter_subject": "orders.new", "ack_wait": 5_000_000_000_u64, "max_ack_pending": 10,
    }});
    bench.api(&format!("CONSUMER.CREATE.{STREAM}.{CONSUMER}"), found).await;
    let error = bench.streams().consume(&config(), false, soon()).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().contains("after 7 deliveries"), "{error}");
    assert_eq!(bench.consumer().await["config"]["max_deliver"], 7);
    let mut unlimited = bench.consumer().await["config"].take();
    unlimited["max_deliver"] = json!(-1);
    let unlimited = json!({ "stream_name": STREAM, "config": unlimited });
    let updated =
        bench.api(&format!("CONSUMER.CREATE.{STREAM}.{CONSUMER}.orders.new"), unlimited).await;
    assert!(updated["error"].is_null(), "{updated}");
    let joined = bench.streams().consume(&config(), false, soon()).await.unwrap();
    assert_eq!(joined.ack_wait, Duration::from_secs(5));
    let told: Vec<String> = joined.differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "filters is orders.new, not >",
            "ack_wait is 5s, not 30s",
            "max_in_flight is 10, not 10000",
        ]
    );
    assert_eq!(bench.consumer().await["config"]["max_ack_pending"], 10);

    let mut config = config();
    config.filters = vec!["orders.a".to_owned(), "orders.b".to_owned()];
    let joined = bench.streams().consume(&config, true, soon()).await.unwrap();
    assert_eq!(joined.differences, []);
    assert_eq!(joined.ack_wait, config.ack_wait);
    let now = bench.consumer().await["config"].take();
    assert_eq!(now["description"], "of somebody else", "{now}");
    assert_eq!(now["max_waiting"], 99);
    assert_eq!(now["filter_subjects"], json!(["orders.a", "orders.b"]));
    assert_eq!((&now["max_deliver"], &now["max_ack_pending"]), (&json!(-1), &json!(10_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_cannot_be_used_is_refused() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    for (name, what, options) in [
        ("push", "push consumer", json!({ "ack_policy": "explicit", "deliver_subject": "d" })),
        ("all", "acknowledged", json!({ "ack_policy": "all" })),
        ("none", "acknowledged", json!({ "ack_policy": "none" })),
        ("headers", "payloads", json!({ "ack_policy": "explicit", "headers_only": true })),
        (
            "groups",
            "priority groups",
            json!({ "ack_policy": "explicit", "priority_policy": "overflow",
                    "priority_groups": ["a"] }),
        ),
    ] {
        let mut options = options;
        options["durable_name"] = json!(name);
        options["name"] = json!(name);
        let made = bench
            .api(
                &format!("CONSUMER.CREATE.{STREAM}.{name}"),
                json!({ "stream_name": STREAM, "config": options }),
            )
            .await;
        assert!(made["error"].is_null(), "{made}");
        let mut config = config();
        config.name = name.to_owned();
        for overwrite in [false, true] {
            let error = bench.streams().consume(&config, overwrite, soon()).await.unwrap_err();
            assert!(error.is_conflict() && error.to_string().contains(what), "{error}");
        }
    }
    let mut config = config();
    config.filters = vec!["orders.>".to_owned(), "orders.a".to_owned()];
    let error = bench.streams().consume(&config, false, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    config.filters = vec!["orders.>".to_owned()];
    config.start = Start::Sequence(3);
    bench
        .api(
            "STREAM.CREATE.QUEUE",
            json!({ "name": "QUEUE", "subjects": ["q"], "retention": "workqueue" }),
        )
        .await;
    config.stream = "QUEUE".to_owned();
    config.filters = vec!["q".to_owned()];
    let error = bench.streams().consume(&config, false, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_members_all_succeed_and_share() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let joins = (0..12).map(|_| async {
        let bench = Bench::of(&server).await;
        let member = bench.join(&config()).await;
        (bench, member)
    });
    let mut members = futures::future::join_all(joins).await;
    bench.publish(0..600).await;
    let mut seen = Vec::new();
    let mut busy = 0;
    let total = &AtomicUsize::new(0);
    let works = members.iter_mut().map(|(bench, member)| async move {
        let mut seen = Vec::new();
        let all = || total.load(Ordering::Relaxed) == 600;
        while let Some(delivery) = next_until(&mut **member, all).await {
            bench.settle(&delivery, Settlement::Done).await;
            seen.push(super::number(&delivery));
            total.fetch_add(1, Ordering::Relaxed);
        }
        seen
    });
    for part in futures::future::join_all(works).await {
        busy += usize::from(!part.is_empty());
        seen.extend(part);
    }
    assert_eq!(all_of(&seen, 0..600), 0);
    let delivered = &bench.consumer().await["delivered"];
    assert_eq!(delivered["consumer_seq"], 600, "something came twice: {delivered}");
    assert!(busy > 6, "only {busy} members had messages");
    assert_eq!(bench.streams().consumer_names(STREAM, soon()).await.unwrap(), [CONSUMER]);
}

/// All that a durable subscription does, on a server of this version.
async fn works_on(version: Version) {
    if !require(version) {
        return;
    }
    let mut server = Server::builder().version(version).jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..500).await;
    let mut member = bench.join(&config()).await;
    let mut seen = bench.work(&mut *member, 200).await;

    let mut wanted = config();
    wanted.ack_wait = Duration::from_secs(7);
    wanted.max_in_flight = 77;
    let joined = bench.streams().consume(&wanted, false, soon()).await.unwrap();
    assert_eq!(joined.differences.len(), 2, "{:?}", joined.differences);
    let joined = bench.streams().consume(&wanted, true, soon()).await.unwrap();
    assert_eq!(joined.differences, []);
    drop(joined);

    server.kill().await;
    server.restart().await;
    while seen.iter().max() < Some(&499) {
        let delivery = next(&mut *member).await;
        bench.settle(&delivery, Settlement::Done).await;
        seen.push(super::number(&delivery));
    }
    bench.delete_consumer().await;
    bench.publish(500..600).await;
    while seen.iter().max() < Some(&599) {
        let delivery = next(&mut *member).await;
        bench.settle(&delivery, Settlement::Done).await;
        seen.push(super::number(&delivery));
    }
    all_of(&seen, 0..600);
    assert_eq!(member.events().consumer_remade, 1);
    // What is given up is given up, also where the server takes no reason.
    bench.publish(600..601).await;
    let unwanted = loop {
        let delivery = next(&mut *member).await;
        if super::number(&delivery) == 600 {
            break delivery;
        }
        bench.settle(&delivery, Settlement::Done).await;
    };
    bench.settle(&unwanted, Settlement::Never("not wanted".to_owned())).await;
    eventually(LONG, || async { bench.consumer().await["num_ack_pending"] == 0 }).await;
    assert_eq!(bench.consumer().await["num_pending"], 0);
    member.drain(soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn works_on_2_15() {
    works_on(Version::V2_15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn works_on_2_12() {
    works_on(Version::V2_12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn works_on_2_11() {
    works_on(Version::V2_11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn works_on_2_10() {
    works_on(Version::V2_10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn works_on_debians_server_but_for_several_filters() {
    works_on(Version::Debian29).await;
    if !require(Version::Debian29) {
        return;
    }
    let server = Server::builder().version(Version::Debian29).jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut config = config();
    config.filters = vec!["orders.a".to_owned(), "orders.b".to_owned()];
    let error = bench.streams().consume(&config, false, soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("2.10 or newer; connected to 2.9"), "{error}");
    assert!(bench.streams().consumer_names(STREAM, soon()).await.unwrap().is_empty());
}

/// The exact subjects that a member needs, and what it says when one of them is not permitted.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_works_with_exactly_its_permissions() {
    let needed = [
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.ORDERS",
        "$JS.API.CONSUMER.INFO.ORDERS.workers",
        "$JS.API.CONSUMER.CREATE.ORDERS.workers",
        "$JS.API.CONSUMER.MSG.NEXT.ORDERS.workers",
        "$JS.ACK.ORDERS.workers.>",
    ];
    let mut builder = Server::builder().jetstream().user("admin", "secret");
    let may = Permissions::default().publish(&needed).subscribe(&["_INBOX.>"]);
    builder = builder.user_with("all", "secret", &may);
    for (n, lacking) in needed.iter().enumerate() {
        let others: Vec<_> = needed.iter().copied().filter(|other| other != lacking).collect();
        let may = Permissions::default().publish(&others).subscribe(&["_INBOX.>"]);
        builder = builder.user_with(&format!("lacks{n}"), "secret", &may);
    }
    let server = builder.start().await;
    let as_user = |user: String| {
        let url = server.url();
        async move {
            let user = [("NATS.USERNAME", user.as_str()), ("NATS.PASSWORD", "secret")];
            Bench::connect(&url, &user).await
        }
    };
    let admin = as_user("admin".to_owned()).await;
    admin.make_stream(1).await;
    admin.publish(0..50).await;
    for n in [1, 2, 3, 4] {
        let bench = as_user(format!("lacks{n}")).await;
        let error = bench.streams().consume(&config(), false, soon()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{}: {error}", needed[n]);
        assert_eq!(error.context("subject"), Some(needed[n]), "{error}");
    }
    let bench = as_user("all".to_owned()).await;
    let mut member = bench.join(&config()).await;
    assert_eq!(bench.work(&mut *member, 50).await.len(), 50);
    member.drain(soon()).await.unwrap();
    eventually(LONG, || async { admin.consumer().await["num_ack_pending"] == 0 }).await;
}
