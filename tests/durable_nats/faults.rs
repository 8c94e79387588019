//! Members live through servers that end, networks that fail, and consumers and streams that are
//! deleted under them. What was acknowledged is delivered at least once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nats_connector::pubsub::driver::{Deliveries, Settlement, Start};
use nats_connector::streams::StreamConfig;
use serde_json::{Value, json};
use testkit::{Proxy, Server, eventually, size};

use super::{Bench, CONSUMER, LONG, STREAM, all_of, config, next, next_until, number, quiet, soon};

/// Publishes numbers until told to stop, each again until a stream has acknowledged it.
pub(crate) fn publish_on(url: &str, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let (urls, stop) = (url.split(',').map(str::to_owned).collect::<Vec<_>>(), stop.clone());
    tokio::spawn(async move {
        let client = async_nats::ConnectOptions::new()
            .max_reconnects(None)
            .reconnect_delay_callback(|_| Duration::from_millis(20))
            .connect(urls)
            .await
            .unwrap();
        let context = async_nats::jetstream::new(client);
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            let publish = async {
                context.publish("orders.new", next.to_string().into()).await.ok()?.await.ok()
            };
            match tokio::time::timeout(Duration::from_secs(2), publish).await {
                Ok(Some(_)) => next += 1,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        next
    })
}

/// Works until all numbers below the one that the publisher ended with have come.
pub(crate) async fn work_on(
    bench: &Bench,
    member: &mut dyn Deliveries,
    published: tokio::task::JoinHandle<u64>,
    seen: &mut Vec<u64>,
) -> u64 {
    let mut published = published;
    let mut distinct: BTreeSet<u64> = seen.iter().copied().collect();
    let mut last = None;
    let limit = Instant::now() + LONG * 2;
    while last.is_none_or(|last| (distinct.len() as u64) < last) {
        assert!(Instant::now() < limit, "{} of {last:?}, {:?}", distinct.len(), member.events());
        tokio::select! {
            biased;
            delivery = next(member) => {
                bench.settle(&delivery, Settlement::Done).await;
                seen.push(number(&delivery));
                distinct.insert(number(&delivery));
            }
            ended = &mut published, if last.is_none() => last = Some(ended.unwrap()),
        }
    }
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_was_acknowledged() {
    let mut server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut config = config();
    config.ack_wait = Duration::from_secs(2);
    let mut member = bench.join(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_on(&server.url(), &stop);
    let mut seen = Vec::new();
    let kills = async {
        for _ in 0..size(2, 10) {
            let reached = bench_count(&server).await + size(300, 3_000);
            eventually(LONG, || async { bench_count(&server).await >= reached }).await;
            server.kill().await;
            server.restart().await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), last) = tokio::join!(kills, work_on(&bench, &mut *member, published, &mut seen));
    all_of(&seen, 0..last);
    assert!(member.events().restarts >= 1, "{:?}", member.events());
    assert_eq!(member.events().consumer_remade, 0);
}

/// How many messages the server's streams hold.
async fn bench_count(server: &Server) -> u64 {
    server.monitor("/jsz").await["messages"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_made_good() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let bench = Bench::connect(&proxy.url(), &[("NATS.RECONNECT_WAIT", "50ms")]).await;
    bench.make_stream(1).await;
    let mut config = config();
    config.ack_wait = Duration::from_secs(2);
    let mut member = bench.join(&config).await;
    let stop = Arc::new(AtomicBool::new(false));
    let published = publish_on(&server.url(), &stop);
    let mut seen = Vec::new();
    let cuts = async {
        for _ in 0..size(4, 30) {
            let reached = bench_count(&server).await + 100;
            eventually(LONG, || async { bench_count(&server).await >= reached }).await;
            proxy.cut();
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), last) = tokio::join!(cuts, work_on(&bench, &mut *member, published, &mut seen));
    all_of(&seen, 0..last);
    assert!(member.events().restarts >= 1, "{:?}", member.events());
}

/// What is said of a message while the connection is lost is said when it is back, whatever the
/// settings say of calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_settlement_waits_for_the_connection() {
    let server = Server::builder().jetstream().start().await;
    let proxy = Proxy::start(server.address());
    let bench = Bench::connect(&proxy.url(), &[("NATS.RECONNECT_WAIT", "50ms")]).await;
    bench.make_stream(1).await;
    bench.publish(0..1).await;
    let mut member = bench.join(&config()).await;
    let delivery = next(&mut *member).await;
    proxy.refuse();
    proxy.cut();
    let connector = &bench.connector;
    eventually(LONG, || async {
        connector.health().await.state == nats_connector::connector::State::Disconnected
    })
    .await;
    let short = tokio::time::Instant::now() + Duration::from_millis(200);
    let error =
        bench.streams().settle(&delivery.receipt, Settlement::Done, short).await.unwrap_err();
    assert_eq!(error.kind(), nats_connector::ErrorKind::Unavailable, "{error}");
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.resume();
    };
    tokio::join!(bench.settle(&delivery, Settlement::Done), back);
    eventually(LONG, || async { bench.consumer().await["num_ack_pending"] == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_noticed() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    // The connection stays open, and nothing goes through.
    let proxy = Proxy::start(server.address());
    let behind = Bench::connect(&proxy.url(), &[]).await;
    let mut other = behind.join(&config()).await;
    quiet(&mut *other, Duration::from_millis(100)).await;
    proxy.black_hole();
    let noticed = async {
        while other.events().restarts == 0 {
            quiet(&mut *other, Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(LONG, noticed).await.unwrap();
    proxy.resume();
    bench.publish(0..20).await;
    assert_eq!(behind.work(&mut *other, 20).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_made_again_behind_what_was_settled() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..100).await;
    let mut config = config();
    config.start = Start::Sequence(11);
    let mut member = bench.join(&config).await;
    let mut seen = bench.work(&mut *member, 50).await;
    assert_eq!(seen[0], 10);
    eventually(LONG, || async { bench.consumer().await["num_ack_pending"] == 40 }).await;
    bench.delete_consumer().await;
    // It is not known how far the others were, so that some come again; none is missed.
    while seen.iter().max() < Some(&99) {
        seen.extend(bench.work(&mut *member, 1).await);
    }
    bench.publish(100..110).await;
    while seen.iter().max() < Some(&109) {
        seen.extend(bench.work(&mut *member, 1).await);
    }
    all_of(&seen, 10..110);
    assert_eq!(member.events().consumer_remade, 1);
    let consumer = bench.consumer().await;
    assert_eq!(consumer["config"]["deliver_policy"], "by_start_sequence", "{consumer}");

    // After a begin anew it is known how far all are, and none comes again.
    drop(member);
    let mut member = bench.join(&config).await;
    quiet(&mut *member, Duration::from_millis(200)).await;
    bench.delete_consumer().await;
    bench.publish(110..120).await;
    assert_eq!(bench.work(&mut *member, 10).await, (110..120).collect::<Vec<_>>());
    assert_eq!(member.events().consumer_remade, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_members_make_a_deleted_consumer_again() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut members = Vec::new();
    for _ in 0..4 {
        let mut member = bench.join(&config()).await;
        quiet(&mut *member, Duration::from_millis(50)).await;
        members.push(member);
    }
    bench.delete_consumer().await;
    bench.publish(0..100).await;
    let mut seen = Vec::new();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (bench, distinct) = (Arc::new(bench), Arc::new(Mutex::new(BTreeSet::new())));
    let tasks: Vec<_> = members
        .into_iter()
        .map(|mut member| {
            let (bench, sender, distinct) = (bench.clone(), sender.clone(), distinct.clone());
            tokio::spawn(async move {
                let all = || distinct.lock().unwrap().len() == 100;
                while let Some(delivery) = next_until(&mut *member, all).await {
                    bench.settle(&delivery, Settlement::Done).await;
                    distinct.lock().unwrap().insert(number(&delivery));
                    sender.send(number(&delivery)).unwrap();
                }
                member.events().consumer_remade
            })
        })
        .collect();
    let mut remade = 0;
    for task in tasks {
        remade += task.await.unwrap();
    }
    while let Ok(number) = heard.try_recv() {
        seen.push(number);
    }
    all_of(&seen, 0..100);
    // Members that make the same one at the same time cannot tell who was first.
    assert!((1..=4).contains(&remade), "{remade}");
    let names = bench.streams().consumer_names(STREAM, soon()).await.unwrap();
    assert_eq!(names, [CONSUMER]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_waited_for_and_begun_anew() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    bench.publish(0..20).await;
    let mut config = config();
    config.start = Start::Sequence(3);
    let mut member = bench.join(&config).await;
    assert_eq!(bench.work(&mut *member, 18).await[0], 2);
    bench.streams().delete_stream(STREAM, soon()).await.unwrap();
    quiet(&mut *member, Duration::from_secs(1)).await;
    bench.make_stream(1).await;
    bench.publish(100..120).await;
    // It is another stream: begun as it was asked for.
    assert_eq!(bench.work(&mut *member, 18).await, (102..120).collect::<Vec<_>>());
    assert!(member.events().consumer_remade >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_that_was_declared_here_is_made_again() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    let declared = StreamConfig::new(STREAM, ["orders.>"]).max_messages(1_000);
    bench.connector.pubsub().stream(declared).await.unwrap();
    bench.publish(0..20).await;
    let mut member = bench.join(&config()).await;
    bench.work(&mut *member, 20).await;
    // Somebody else deletes it.
    let gone = bench.api(&format!("STREAM.DELETE.{STREAM}"), Value::Null).await;
    assert_eq!(gone["success"], true, "{gone}");
    let alive = async {
        while member.events().consumer_remade == 0 {
            quiet(&mut *member, Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, alive).await.unwrap();
    let stream = bench.streams().stream(STREAM, soon()).await.unwrap().unwrap();
    assert_eq!((stream.messages, stream.config.subjects()), (0, &["orders.>".to_owned()][..]));
    bench.publish(20..40).await;
    assert_eq!(bench.work(&mut *member, 20).await, (20..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_consumer_is_waited_for_in_quiet() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut member = bench.join(&config()).await;
    bench.publish(0..10).await;
    bench.work(&mut *member, 10).await;
    let pause = async |until: &str| {
        let body = json!({ "pause_until": until });
        let answer = bench.api(&format!("CONSUMER.PAUSE.{STREAM}.{CONSUMER}"), body).await;
        assert!(answer["error"].is_null(), "{answer}");
    };
    pause("2999-01-01T00:00:00Z").await;
    bench.publish(10..20).await;
    quiet(&mut *member, Duration::from_secs(3)).await;
    assert_eq!(member.events().restarts, 0);
    pause("2020-01-01T00:00:00Z").await;
    assert_eq!(bench.work(&mut *member, 10).await, (10..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_change_are_kept_to() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut member = bench.join(&config()).await;
    bench.publish(0..300).await;
    let mut seen = bench.work(&mut *member, 10).await;
    let mut changed: Value = bench.consumer().await["config"].take();
    changed["max_batch"] = json!(3);
    changed["max_expires"] = json!(1_000_000_000_u64);
    let request = json!({ "stream_name": STREAM, "config": changed, "action": "update" });
    let answer = bench.api(&format!("CONSUMER.CREATE.{STREAM}.{CONSUMER}"), request).await;
    assert!(answer["error"].is_null(), "{answer}");
    seen.extend(bench.work(&mut *member, 290).await);
    assert_eq!(all_of(&seen, 0..300), 0);
    assert!((1..10).contains(&member.events().restarts), "{:?}", member.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connector_ends_its_members() {
    let server = Server::builder().jetstream().start().await;
    let bench = Bench::of(&server).await;
    bench.make_stream(1).await;
    let mut idle = bench.join(&config()).await;
    quiet(&mut *idle, Duration::from_millis(100)).await;
    let mut unused = bench.join(&config()).await;
    bench.connector.drain().await;
    for member in [&mut idle, &mut unused] {
        let end = std::future::poll_fn(|cx| member.poll_next(8, cx));
        assert!(tokio::time::timeout(LONG, end).await.unwrap().is_none());
    }
    let error = bench.streams().consume(&config(), false, soon()).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
}
