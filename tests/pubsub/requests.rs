//! Questions, answers, and what it means when there is none.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nats_connector::ErrorKind;
use nats_connector::pubsub::Message;
use testkit::Server;

use crate::{PATIENCE, connect, connect_with, next};

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_each_get_their_own_answer() {
    let server = Server::builder().start().await;
    let (asking, answering) = (connect(&server).await.pubsub(), connect(&server).await.pubsub());
    for _ in 0..2 {
        answering
            .subscribe("square", |message: Message| async move {
                let number: u64 = message.decode()?;
                message.respond(&(number * number)).await
            })
            .queue("squares")
            .concurrency(8)
            .await
            .unwrap();
    }
    let answers = join_all((0..500_u64).map(|n| asking.request("square", &n))).await;
    for (n, answer) in (0..).zip(answers) {
        assert_eq!(answer.unwrap().decode::<u64>().unwrap(), n * n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nobody_answering_are_told_apart() {
    let server = Server::builder().start().await;
    let connector = connect_with(&server, &[("NATS.REQUEST_TIMEOUT", "300ms")]).await;
    let pubsub = connector.pubsub();

    let started = Instant::now();
    let error = pubsub.request("void", "?").timeout(PATIENCE).await.unwrap_err();
    assert!(started.elapsed() < PATIENCE);
    assert!(error.is_no_responders() && !error.is_timeout(), "{error}");
    assert_eq!((error.kind(), error.context("topic")), (ErrorKind::Unavailable, Some("void")));

    let mut silent = pubsub.messages("silence").timeout(PATIENCE).await.unwrap();
    for limit in [None, Some(Duration::from_millis(100))] {
        let started = Instant::now();
        let call = pubsub.request("silence", "?");
        let error = match limit {
            None => call.await,
            Some(limit) => call.timeout(limit).await,
        }
        .unwrap_err();
        assert!(error.is_timeout() && !error.is_no_responders(), "{error}");
        assert_eq!(error.context("topic"), Some("silence"));
        let limit = limit.unwrap_or(Duration::from_millis(300));
        let elapsed = started.elapsed();
        assert!(elapsed >= limit && elapsed < limit + Duration::from_secs(5), "{elapsed:?}");
        // An answer that comes too late goes nowhere and disturbs nobody.
        next(&mut silent).await.respond("late").await.unwrap();
    }
    pubsub
        .subscribe("here", |m: Message| async move { m.respond("yes").await })
        .timeout(PATIENCE)
        .await
        .unwrap();
    let answer = pubsub.request("here", "?").timeout(PATIENCE).await.unwrap();
    assert_eq!(answer.decode::<String>().unwrap(), "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_publish_cannot_be_answered() {
    let server = Server::builder().start().await;
    let pubsub = connect(&server).await.pubsub();
    let mut stream = pubsub.messages("news").await.unwrap();
    pubsub.publish("news", "x").await.unwrap();
    let message = next(&mut stream).await;
    assert_eq!(message.reply(), None);
    let error = message.respond("y").await.unwrap_err();
    assert_eq!((error.kind(), error.context("topic")), (ErrorKind::InvalidInput, Some("news")));
}
