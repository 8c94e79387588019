//! What is held is not delivered again while its member lives, up to a limit.

use std::time::Duration;

use nats_connector::pubsub::Message;

use super::*;

/// Long enough for a busy machine to say in time that it is at work.
const WAIT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn slow_handlers_and_what_waits_behind_them_are_not_delivered_again() {
    let bench = Bench::start().await;
    let quick = 500;
    bench.publish("orders.new", 0..quick).await;
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        let log = log.clone();
        async move {
            let number: u64 = msg.decode()?;
            if number == quick {
                tokio::time::sleep(3 * WAIT).await;
            }
            log.push(number);
            Handled::Ok(())
        }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").ack_wait(WAIT);
    let subscription = call.await.unwrap();
    // The room has grown by now.
    seen.reach(quick as usize).await;
    let many = quick + 100;
    bench.publish("orders.new", quick..many).await;
    seen.reach(many as usize).await;
    bench.settled("billing").await;
    assert_eq!(seen.all(), (0..many).collect::<Vec<_>>());
    let stats = subscription.stats();
    assert_eq!((stats.handled, stats.redelivered, stats.let_go), (many, 0, 0));
}

#[tokio::test]
async fn the_wait_of_the_consumer_that_was_found_counts() {
    let bench = Bench::start().await;
    let handler = |_: Message| async {};
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing").ack_wait(WAIT);
    call.await.unwrap().unsubscribe().await.unwrap();
    let handler = |_: Message| tokio::time::sleep(3 * WAIT);
    let call = bench.pubsub.subscribe("orders.>", handler).durable("billing");
    let subscription = call.ack_wait(100 * WAIT).await.unwrap();
    let difference = &subscription.differences()[0];
    assert_eq!(difference.option, "ack_wait");
    bench.publish("orders.new", [1]).await;
    eventually(PATIENCE, || async { subscription.stats().handled == 1 }).await;
    bench.settled("billing").await;
    assert_eq!(subscription.stats().redelivered, 0);
}

#[tokio::test]
async fn up_to_a_limit() {
    let bench = Bench::start().await;
    bench.publish("orders.new", ["stuck"]).await;
    let seen = Seen::new();
    let log = seen.clone();
    let handler = move |msg: Message| {
        let first = msg.delivery().unwrap().deliveries() == 1;
        log.push(first);
        async move {
            if first {
                std::future::pending::<()>().await;
            }
        }
    };
    let call = bench.pubsub.subscribe("orders.>", handler).concurrency(2).durable("billing");
    let begun = Instant::now();
    let subscription = call.ack_wait(WAIT).extend_for(2 * WAIT).await.unwrap();
    seen.reach(2).await;
    assert!(begun.elapsed() > 2 * WAIT, "{:?}", begun.elapsed());
    bench.settled("billing").await;
    assert_eq!(seen.all(), [true, false]);
    let stats = subscription.stats();
    assert_eq!((stats.let_go, stats.redelivered, stats.handled), (1, 1, 1));
}

#[tokio::test]
async fn a_handler_that_blocks_the_thread_has_the_others_let_go() {
    let bench = Bench::start().await;
    bench.publish("orders.new", ["slow", "blocking"]).await;
    let handler = |msg: Message| async move {
        let first = msg.delivery().unwrap().deliveries() == 1;
        match msg.decode::<String>()?.as_str() {
            "slow" if first => tokio::time::sleep(5 * WAIT).await,
            "blocking" if first => {
                // The other one has been extended once.
                tokio::time::sleep(WAIT).await;
                std::thread::sleep(2 * WAIT);
            }
            _ => {}
        }
        Handled::Ok(())
    };
    let call = bench.pubsub.subscribe("orders.>", handler).concurrency(2).durable("billing");
    let subscription = call.ack_wait(WAIT).await.unwrap();
    eventually(PATIENCE, || async { subscription.stats().let_go >= 1 }).await;
    eventually(PATIENCE, || async { subscription.stats().redelivered >= 1 }).await;
    bench.settled("billing").await;
}
