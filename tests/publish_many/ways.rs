//! What is published arrives, whichever way it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use nats_connector::pubsub::{Outgoing, Way};
use testkit::{Server, Version, eventually, size};
use tokio::sync::mpsc;

use crate::{PATIENCE, batched, connect, jetstream, make, numbers, plain, stored};

#[tokio::test(flavor = "multi_thread")]
async fn all_arrive_in_order_and_each_is_told() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let count = size(20_000, 1_000_000);
    for (config, way) in [(plain("window"), Way::Window), (batched("fast"), Way::FastIngest)] {
        let name = config.name.clone();
        let topic: &'static str = if way == Way::Window { "window.a" } else { "fast.a" };
        let made = make(&connector, config).await;
        let pubsub = connector.pubsub();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (progress, mut steps) = mpsc::unbounded_channel();
        let report = pubsub
            .publish_many(numbers(&pubsub, topic, 0..count))
            .each(move |index, result| {
                let acked = result.unwrap();
                tell.send((index, acked.stream.to_string(), acked.sequence)).unwrap();
            })
            .progress(Duration::from_millis(1), move |step| progress.send(step).unwrap())
            .await
            .unwrap();
        assert!(report.is_complete() && report.duplicates == 0, "{report:?}");
        assert_eq!((report.stored, report.way), (count, way));
        assert!(stored(&made).await.into_iter().eq(0..count), "not in order by {way}");
        for n in 0..count {
            let (index, stream, sequence) = told.recv().await.unwrap();
            assert_eq!((index, stream.as_str()), (n, name.as_str()));
            assert_eq!(sequence, (way == Way::Window).then_some(n + 1));
        }
        assert!(told.recv().await.is_none());
        let mut last = steps.recv().await.unwrap();
        while let Some(step) = steps.recv().await {
            assert!(step.done() >= last.done() && step.elapsed >= last.elapsed);
            last = step;
        }
        assert_eq!((last.stored, last.elapsed <= report.elapsed), (count, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_with_the_same_ids_stores_nothing_again() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let made = make(&connector, batched("ids")).await;
    let pubsub = connector.pubsub();
    let run = || pubsub.publish_many(numbers(&pubsub, "ids.a", 0..3_000)).message_ids("import");
    assert_eq!(run().await.unwrap().into_result().unwrap().way, Way::FastIngest);
    // Fast ingest does not tell that they were there; the window does.
    assert_eq!(run().await.unwrap().stored, 3_000);
    let again = run().without_fast_ingest().await.unwrap();
    assert_eq!((again.stored, again.duplicates, again.way), (0, 3_000, Way::Window));
    assert!(stored(&made).await.into_iter().eq(0..3_000));
    let first = made.get_raw_message(1).await.unwrap();
    assert_eq!(first.headers.get("Nats-Msg-Id").unwrap().as_str(), "import-0");
    // An own id stays.
    let own = pubsub.publish("ids.a", &0).jetstream().message_id("own");
    let report = pubsub.publish_many([own]).message_ids("import").await.unwrap();
    assert_eq!(report.stored, 1);
    let last = made.get_raw_message(3_001).await.unwrap();
    assert_eq!(last.headers.get("Nats-Msg-Id").unwrap().as_str(), "own");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_goes_to_its_own_stream() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let (a, b) = (make(&connector, batched("a")).await, make(&connector, batched("b")).await);
    let c = make(&connector, plain("c")).await;
    let pubsub = connector.pubsub();
    let handle = pubsub.clone();
    let items = (0..6_000_u64).map(move |n| {
        let topic = ["a.x", "b.x", "c.x", "a.y"][usize::try_from(n % 4).unwrap()];
        handle.publish(topic, &n).header("Trace", "1")
    });
    let report = pubsub.publish_many(items).await.unwrap().into_result().unwrap();
    assert_eq!((report.stored, report.way), (6_000, Way::FastIngest));
    let with = |rests: &'static [u64]| (0..6_000).filter(|n| rests.contains(&(n % 4)));
    assert!(stored(&a).await.into_iter().eq(with(&[0, 3])));
    assert!(stored(&b).await.into_iter().eq(with(&[1])));
    assert!(stored(&c).await.into_iter().eq(with(&[2])));
    let message = a.get_raw_message(2).await.unwrap();
    assert_eq!((message.subject.as_str(), message.payload.as_ref()), ("a.y", b"3".as_ref()));
    assert_eq!(message.headers.get("Trace").unwrap().as_str(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_is_read_only_as_the_window_has_room() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    make(&connector, batched("room")).await;
    let pubsub = connector.pubsub();
    for (window, fast) in [(1, true), (1, false), (7, true), (7, false), (10_000, true)] {
        let (pulled, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let most = Arc::new(AtomicU64::new(0));
        let (counted, now, above) = (pulled.clone(), done.clone(), most.clone());
        let items = numbers(&pubsub, "room.a", 0..700).inspect(move |_| {
            let open = counted.fetch_add(1, Ordering::Relaxed) + 1 - now.load(Ordering::Relaxed);
            above.fetch_max(open, Ordering::Relaxed);
        });
        let mut call = pubsub.publish_many(items).window(window).each(move |_, result| {
            result.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        });
        if !fast {
            call = call.without_fast_ingest();
        }
        let report = call.await.unwrap().into_result().unwrap();
        assert_eq!((report.stored, pulled.load(Ordering::Relaxed)), (700, 700));
        let most = most.load(Ordering::Relaxed);
        assert!(most <= window as u64, "{most} were under way with a window of {window}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_waits_gets_its_answers_meanwhile() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    let made = make(&connector, batched("slow")).await;
    let pubsub = connector.pubsub();
    let (give, items) = mpsc::unbounded_channel::<Outgoing>();
    let items = stream::unfold(items, |mut items| async { Some((items.recv().await?, items)) });
    let (tell, mut told) = mpsc::unbounded_channel();
    let call = pubsub.publish_stream(items).each(move |index, result| {
        result.unwrap();
        tell.send(index).unwrap();
    });
    let run = tokio::spawn(call);
    for n in 0..9 {
        give.send(pubsub.publish("slow.a", &n).into()).unwrap();
        if n % 3 == 2 {
            for wanted in n - 2..=n {
                let index = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap();
                assert_eq!(index, Some(wanted));
            }
            assert_eq!(made.get_info().await.unwrap().state.messages, n + 1);
        }
    }
    drop(give);
    let report = run.await.unwrap().unwrap().into_result().unwrap();
    assert_eq!((report.stored, report.way), (9, Way::FastIngest));
}

#[tokio::test(flavor = "multi_thread")]
async fn older_servers_and_streams_without_the_option_take_the_window() {
    for version in [Version::V2_10, Version::V2_12] {
        if !testkit::require(version) {
            continue;
        }
        let server = Server::builder().version(version).jetstream().start().await;
        let connector = connect(&server).await;
        let made = make(&connector, plain("old")).await;
        let pubsub = connector.pubsub();
        let call = pubsub.publish_many(numbers(&pubsub, "old.a", 0..2_000));
        let report = call.await.unwrap().into_result().unwrap();
        assert_eq!((report.stored, report.way), (2_000, Way::Window), "{version}");
        assert!(stored(&made).await.into_iter().eq(0..2_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    make(&connector, batched("left")).await;
    let pubsub = connector.pubsub();
    let subscriptions = || async {
        let connections = server.connz().await;
        connections["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["subscriptions"].as_u64().unwrap())
            .sum::<u64>()
    };
    pubsub.flush().await.unwrap();
    let before = subscriptions().await;
    for _ in 0..5 {
        let call = pubsub.publish_many(numbers(&pubsub, "left.a", 0..1_000));
        assert_eq!(call.await.unwrap().stored, 1_000);
        // Dropped in the middle.
        let endless = numbers(&pubsub, "left.a", 0..u64::MAX);
        let run = tokio::spawn(pubsub.publish_many(endless));
        let mut held = make_sure_it_runs(&connector).await;
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        held = held.max(1);
        assert!(held > 0);
    }
    eventually(PATIENCE, || async { subscriptions().await == before }).await;
    // No batch is open: the server would share its pace with it.
    let client = connector.client().unwrap();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(format!("{inbox}.>")).await.unwrap();
    let reply = format!("{inbox}.own.500.fail.1.0.$FI");
    client.publish_with_reply("left.a", reply, "1".into()).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["msgs"], 500, "{answer}");
    // And the connection is as good as before.
    assert_eq!(pubsub.publish("left.a", &1).jetstream().await.unwrap().stream, "left");
}

/// Waits until the stream grows; how much it has.
async fn make_sure_it_runs(connector: &nats_connector::Connector) -> u64 {
    let context = connector.jetstream().unwrap();
    let count = || async { context.get_stream("left").await.unwrap().cached_info().state.messages };
    let before = count().await;
    eventually(PATIENCE, || async { count().await > before }).await;
    count().await
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_inputs_and_the_facade() {
    let server = jetstream().await;
    let connector = connect(&server).await;
    make(&connector, batched("few")).await;
    let pubsub = connector.pubsub().with_prefix("few.");
    let none = pubsub.publish_many(Vec::<Outgoing>::new()).await.unwrap();
    assert_eq!((none.stored, none.is_complete()), (0, true));
    let one = pubsub.publish_stream(stream::iter([pubsub.publish("a", &1)]).boxed());
    assert_eq!(one.await.unwrap().into_result().unwrap().stored, 1);
    nats_connector::pubsub::set_default_driver(pubsub.clone());
    use nats_connector::pubsub as facade;
    let items = (0..5).map(|n| facade::publish("a", &n));
    assert_eq!(facade::publish_many(items).await.unwrap().stored, 5);
    let items = stream::iter((0..5).map(|n| facade::publish("a", &n).jetstream()));
    assert_eq!(facade::publish_stream(items).await.unwrap().stored, 5);
}
