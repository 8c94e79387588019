//! Ending a member: what it has begun ends well, what waits goes to others at once.

use std::time::Duration;

use nats_connector::Backoff;
use nats_connector::pubsub::{Message, Outcome};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_the_middle_the_other_member_gets_the_rest() {
    let bench = Bench::start().await;
    let messages = testkit::size(4_000, 40_000);
    bench.publish("orders.new", 0..messages).await;
    let first = connect(&bench.server.url(), &[]).await;
    let seen = Seen::new();
    let handler = |log: Seen<u64>| {
        move |msg: Message| {
            let log = log.clone();
            async move {
                tokio::time::sleep(Duration::from_micros(200)).await;
                log.push(msg.decode::<u64>()?);
                Handled::Ok(())
            }
        }
    };
    // An hour: nothing comes again by itself.
    let wait = Duration::from_secs(3600);
    let call = first.pubsub().subscribe("orders.>", handler(seen.clone())).durable("billing");
    let leaving = call.concurrency(4).ack_wait(wait).await.unwrap();
    seen.reach(200).await;
    let call = bench.pubsub.subscribe("orders.>", handler(seen.clone())).durable("billing");
    let staying = call.concurrency(4).ack_wait(wait).await.unwrap();
    eventually(PATIENCE, || async { staying.stats().received > 0 }).await;
    let before = leaving.stats();
    let report = first.drain().await;
    assert!(report.is_clean(), "{report:?}");
    let stats = leaving.stats();
    assert_eq!(stats.received, stats.handled, "what was begun has ended");
    assert!(report.handlers_finished <= stats.handled - before.handled);
    eventually(PATIENCE, || async { seen.len() as u64 >= messages }).await;
    bench.settled("billing").await;
    assert_eq!(seen.len() as u64, messages);
    assert!(seen.counts().values().all(|times| *times == 1), "each once");
    assert_eq!(stats.handled + staying.stats().handled, messages);
}

#[tokio::test]
async fn a_handler_that_does_not_end_is_given_up_unsettled() {
    let bench = Bench::start().await;
    bench.publish("orders.new", ["stuck", "fine"]).await;
    let leaving = connect(&bench.server.url(), &[("NATS.DRAIN_TIMEOUT", "300ms")]).await;
    let begun = Seen::new();
    let log = begun.clone();
    let handler = move |msg: Message| {
        log.push(msg.decode::<String>().unwrap());
        std::future::pending::<()>()
    };
    let wait = Duration::from_secs(1);
    let call = leaving.pubsub().subscribe("orders.>", handler).durable("billing").ack_wait(wait);
    let subscription = call.await.unwrap();
    begun.reach(1).await;
    let report = leaving.drain().await;
    assert_eq!((report.handlers_finished, report.handlers_abandoned), (0, 1));
    assert_eq!(subscription.stats().handled, 0);
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        log.push(msg.decode::<String>().unwrap());
        async {}
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").ack_wait(wait);
    call.await.unwrap();
    seen.reach(2).await;
    bench.settled("billing").await;
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["fine", "stuck"]);
}

#[tokio::test]
async fn what_would_lose_its_last_delivery_is_handled() {
    let bench = Bench::start().await;
    let messages = 50;
    bench.publish("orders.new", 0..messages).await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let (firsts, lasts) = (Seen::new(), Seen::new());
    let (first, last) = (firsts.clone(), lasts.clone());
    let handler = move |msg: Message| {
        let (first, last, mut gate) = (first.clone(), last.clone(), gate.clone());
        async move {
            let number: u64 = msg.decode()?;
            if msg.delivery().unwrap().deliveries() == 1 {
                first.push(number);
                return Ok(Outcome::retry());
            }
            gate.wait_for(|open| *open).await.unwrap();
            last.push(number);
            Ok::<_, Error>(Outcome::Ack)
        }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").max_deliver(2);
    let call = call.backoff(Backoff::fixed(Duration::from_millis(300)));
    let subscription = call.await.unwrap();
    firsts.reach(messages as usize).await;
    // One is at work; others, at their last delivery too, wait behind it.
    eventually(PATIENCE, || async { subscription.stats().redelivered == 1 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let done = tokio::spawn(async move {
        subscription.unsubscribe().await.unwrap();
        subscription.stats()
    });
    open.send_replace(true);
    let stats = done.await.unwrap();
    assert_eq!((stats.handled as usize, stats.dead), (lasts.len(), 0));

    let log = lasts.clone();
    let handler = move |msg: Message| {
        log.push(msg.decode().unwrap());
        async {}
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").max_deliver(2);
    let next = call.await.unwrap();
    bench.settled("billing").await;
    assert_eq!(next.stats().dead, 0);
    assert_eq!(lasts.counts().len() as u64, messages);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_member_hoards_nothing() {
    let bench = Bench::start().await;
    let other = connect(&bench.server.url(), &[]).await;
    let (open, gate) = tokio::sync::watch::channel(false);
    let slow = move |_: Message| {
        let mut gate = gate.clone();
        async move { drop(gate.wait_for(|open| *open).await) }
    };
    let slow = other.pubsub().subscribe("orders.>", slow).durable("billing").concurrency(2);
    let slow = slow.await.unwrap();
    let messages = 1_000;
    bench.publish("orders.new", 0..messages).await;
    eventually(PATIENCE, || async { slow.stats().received == 2 }).await;
    let call = bench.pubsub.subscribe("orders.>", |_: Message| async {}).durable("billing");
    let quick = call.await.unwrap();
    // All but what the slow one is at, and at most as many waiting for it.
    eventually(PATIENCE, || async { quick.stats().handled >= messages - 4 }).await;
    open.send_replace(true);
    bench.settled("billing").await;
    assert_eq!(quick.stats().handled + slow.stats().handled, messages);
}

#[tokio::test]
async fn an_unsubscribed_name_is_taken_up_again_at_once() {
    let bench = Bench::start().await;
    bench.publish("orders.new", 0..100).await;
    let seen = Seen::new();
    for _ in 0..10 {
        let before = seen.len();
        let log = seen.clone();
        let handler = move |msg: Message| {
            log.push(msg.decode::<u64>().unwrap());
            tokio::time::sleep(Duration::from_millis(1))
        };
        let call = bench.pubsub.subscribe("orders.>", handler).durable("billing");
        let subscription = call.unlimited_deliveries().await.unwrap();
        seen.reach((before + 5).min(100)).await;
        subscription.drain().await.unwrap();
        let stats = subscription.stats();
        assert_eq!(stats.received, stats.handled);
    }
    let call = bench.pubsub.subscribe("orders.>", |_: Message| async {}).durable("billing");
    call.unlimited_deliveries().await.unwrap();
    bench.settled("billing").await;
    assert!(seen.counts().values().all(|times| *times == 1), "each once: {:?}", seen.counts());
}

#[tokio::test]
async fn at_once_when_no_server_is_there_and_no_handler_runs() {
    for (drain, wait_for_loss) in [(false, false), (false, true), (true, true)] {
        let mut bench = Bench::start().await;
        let call = bench.pubsub.subscribe("orders.>", |_: Message| async {}).durable("billing");
        let subscription = call.await.unwrap();
        bench.publish("orders.new", 0..10).await;
        eventually(PATIENCE, || async { subscription.stats().handled == 10 }).await;
        bench.server.kill().await;
        if wait_for_loss {
            eventually(PATIENCE, || async { !bench.connector.health().await.is_ready() }).await;
        }
        let begun = Instant::now();
        if drain { subscription.drain().await } else { subscription.unsubscribe().await }.unwrap();
        // The request timeout is as long as this patience.
        assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn what_keeps_it_is_told() {
    let bench = Bench::start().await;
    let quick = connect(&bench.server.url(), &[("NATS.REQUEST_TIMEOUT", "500ms")]).await;
    let stuck = |_: Message| std::future::pending::<()>();
    let subscription = quick.pubsub().subscribe("orders.>", stuck).durable("billing");
    let subscription = subscription.timeout(PATIENCE).await.unwrap();
    bench.publish("orders.new", [1]).await;
    eventually(PATIENCE, || async { subscription.stats().received == 1 }).await;
    let error = subscription.unsubscribe().await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("at its handler"), "{error}");
}
