//! What is wrong with one message fails that one; what is wrong with the call fails the call.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures::stream;
use nats_connector::pubsub::{Outgoing, PubSub, PublishReport};
use nats_connector::{Connector, ErrorKind};
use testkit::{Permissions, Server};

use crate::{batched, connect, connect_to, jetstream, make, numbers, plain, stored};

/// Indexes, topics and kinds of what failed; none of it may be stored.
fn failures(report: &PublishReport) -> Vec<(u64, &str, ErrorKind)> {
    assert_eq!(report.failures.len() as u64, report.failed);
    assert!(report.failures.iter().all(|it| !it.may_be_stored), "{report:?}");
    report.failures.iter().map(|it| (it.index, it.topic.as_str(), it.error.kind())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_message_fails_that_one() {
    let server = Server::builder().jetstream().max_payload(10_000).start().await;
    let connector = connect(&server).await;
    for (config, name) in [(plain("x.window"), "window"), (batched("x.fast"), "fast")] {
        let config = Config { name: name.to_owned(), ..config };
        let made = make(&connector, config).await;
        let pubsub = connector.pubsub().with_prefix("x.");
        let handle = pubsub.clone();
        let (good, lonely) = (format!("{name}.a"), format!("{name}_lonely"));
        let (topic, alone) = (good.clone(), lonely.clone());
        let items = (0..2_000_u64).map(move |n| -> Outgoing {
            match n {
                100 => handle.publish("a b", &n).into(),
                200 => handle.publish(topic.clone(), &vec![0; 20_000]).into(),
                300 => handle.publish(alone.clone(), &n).into(),
                400 => handle.publish(topic.clone(), &n).jetstream().expect_last_sequence(7).into(),
                500 => handle.publish(topic.clone(), &n).jetstream().ttl(Duration::ZERO).into(),
                600 => handle.publish(topic.clone(), &n).header("a b", "c").into(),
                700 => handle.publish(topic.clone(), &n).jetstream().expect_stream("z").into(),
                _ => handle.publish(topic.clone(), &n).into(),
            }
        });
        let report = pubsub.publish_many(items).await.unwrap();
        let expected = [
            (100, "a b", ErrorKind::InvalidInput),
            (200, good.as_str(), ErrorKind::TooLarge),
            (300, lonely.as_str(), ErrorKind::Unavailable),
            (400, good.as_str(), ErrorKind::Conflict),
            (500, good.as_str(), ErrorKind::InvalidInput),
            (600, good.as_str(), ErrorKind::InvalidInput),
            (700, good.as_str(), ErrorKind::Conflict),
        ];
        assert_eq!(failures(&report), expected, "{report:?}");
        assert!(report.failures[2].error.to_string().contains("create a stream"), "{report:?}");
        assert_eq!(report.stored, 1_993);
        let bad: Vec<u64> = expected.iter().map(|it| it.0).collect();
        let good = (0..2_000).filter(|n| !bad.contains(n));
        assert!(stored(&made).await.into_iter().eq(good), "{name}");
        let error = report.into_result().unwrap_err();
        assert_eq!((error.kind(), error.context("index")), (ErrorKind::InvalidInput, Some("100")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_what_it_does_not_store() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    for (config, topic) in [(plain("window"), "window.a"), (batched("fast"), "fast.a")] {
        let config = Config { max_messages: 1_500, discard: DiscardPolicy::New, ..config };
        let made = make(&connector, config).await;
        let report = pubsub.publish_many(numbers(&pubsub, topic, 0..5_000)).await.unwrap();
        assert_eq!((report.stored, report.failed), (1_500, 3_500), "{topic}");
        assert_eq!(report.failures.len(), 1_000);
        assert!(report.failures.iter().zip(1_500..).all(|(it, n)| it.index == n));
        let error = &report.failures[0].error;
        assert!(error.to_string().contains("maximum messages"), "{error}");
        assert!(stored(&made).await.into_iter().eq(0..1_500));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_can_end_with_the_first_failure() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    make(&connector, plain("stop")).await;
    let handle = pubsub.clone();
    let items = (0..1_000_000)
        .map(move |n| handle.publish(if n == 5_000 { "not ok" } else { "stop.a" }, &n));
    let report = pubsub.publish_many(items).stop_on_failure().await.unwrap();
    assert_eq!((report.failed, report.failures[0].index), (1, 5_000));
    assert!((5_000..7_000).contains(&report.stored), "{report:?}");
    assert_eq!(report.stopped.as_ref().unwrap().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_permitted_is_told_by_subject() {
    let may = Permissions::default().deny_publish(&["secret.>"]);
    let server = Server::builder().jetstream().user_with("u", "p", &may).start().await;
    let login = [("NATS.USERNAME", "u"), ("NATS.PASSWORD", "p")];
    let connector = connect_to(&server.url(), &login).await;
    let subjects = vec!["open.>".to_owned(), "secret.>".to_owned()];
    for fast in [false, true] {
        let name = if fast { "fast" } else { "window" };
        let base = if fast { batched(name) } else { plain(name) };
        let context = connector.jetstream().unwrap();
        let made = make(&connector, Config { subjects: subjects.clone(), ..base }).await;
        let pubsub = connector.pubsub();
        let handle = pubsub.clone();
        let items = (0..1_000_u64)
            .map(move |n| handle.publish(if n == 10 { "secret.a" } else { "open.a" }, &n));
        let begun = Instant::now();
        let report = pubsub.publish_many(items).await.unwrap();
        assert_eq!(failures(&report), [(10, "secret.a", ErrorKind::Unauthorized)], "{report:?}");
        assert_eq!(report.failures[0].error.context("subject"), Some("secret.a"));
        assert!(begun.elapsed() < Duration::from_secs(8), "it waited for a time limit");
        let mut found = stored(&made).await;
        found.sort_unstable();
        assert!(found.into_iter().eq((0..1_000).filter(|n| *n != 10)));
        context.delete_stream(name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_not_permitted_ends_the_call() {
    let may = Permissions::default().deny_subscribe(&["_INBOX.*.f.>"]);
    let server = Server::builder().jetstream().user_with("u", "p", &may).start().await;
    let login = [("NATS.USERNAME", "u"), ("NATS.PASSWORD", "p")];
    let connector = connect_to(&server.url(), &login).await;
    make(&connector, plain("inbox")).await;
    let pubsub = connector.pubsub();
    let begun = Instant::now();
    let report = pubsub.publish_many(numbers(&pubsub, "inbox.a", 0..100)).await.unwrap();
    assert_eq!(report.stored, 0);
    let stopped = report.stopped.as_ref().unwrap();
    assert_eq!(stopped.kind(), ErrorKind::Unauthorized, "{report:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "it waited for a time limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_bounds_the_call_whatever_the_input_does() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    make(&connector, batched("limit")).await;
    let pubsub = connector.pubsub();
    let limit = Duration::from_millis(500);
    let begun = Instant::now();
    let silent = stream::pending::<Outgoing>();
    let report = pubsub.publish_stream(silent).timeout(limit).await.unwrap();
    assert_eq!(report.stopped.as_ref().unwrap().kind(), ErrorKind::Timeout);
    assert!(report.into_result().unwrap_err().is_timeout());
    let endless = numbers(&pubsub, "limit.a", 0..u64::MAX);
    let report = pubsub.publish_many(endless).timeout(limit).await.unwrap();
    assert!(report.stopped.as_ref().unwrap().is_timeout() && report.stored > 0, "{report:?}");
    assert!(report.failures.iter().all(|it| it.may_be_stored || it.error.is_timeout()));
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
}

async fn error_of(pubsub: &PubSub, window: usize) -> nats_connector::Error {
    pubsub.publish_many([pubsub.publish("a", &1)]).window(window).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_can_never_work_are_refused() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    for window in [0, 10_001] {
        assert_eq!(error_of(&pubsub, window).await.kind(), ErrorKind::InvalidInput);
    }
    let narrow = connect_to(&server.url(), &[("NATS.SUBSCRIPTION_CAPACITY", "100")]).await;
    let error = error_of(&narrow.pubsub(), 101).await;
    assert!(error.to_string().contains("NATS.SUBSCRIPTION_CAPACITY"), "{error}");
    // Messages of another connection.
    make(&connector, batched("mine")).await;
    let other = Connector::memory().pubsub();
    let items = [pubsub.publish("mine.a", &0), pubsub.publish("mine.a", &1)];
    let foreign = other.publish("mine.a", &2);
    let items = items.map(Outgoing::from).into_iter().chain([foreign.into()]);
    let report = pubsub.publish_many(items).await.unwrap();
    assert_eq!(failures(&report), [(2, "mine.a", ErrorKind::InvalidInput)]);
    // A call that has run.
    let mut call = pubsub.publish("mine.a", &3).jetstream();
    (&mut call).await.unwrap();
    let report = pubsub.publish_many([call]).await.unwrap();
    assert_eq!((report.failed, report.stored), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_time_and_no_prefix_for_ids_store_nothing() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let pubsub = connector.pubsub();
    let made = make(&connector, plain("none")).await;
    let publish = || pubsub.publish_many(numbers(&pubsub, "none.a", 0..10));
    let error = publish().timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let error = publish().message_ids("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(stored(&made).await.is_empty());
}
