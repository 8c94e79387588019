//! Tries inside the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_connector::layers::Retry;
use nats_connector::pubsub::{Message, Outcome, with};
use nats_connector::{Backoff, BoxError, Error, ErrorKind};

use super::{Errors, connectors, done, failure};

/// How often each payload was handled.
type Calls = Arc<Mutex<HashMap<String, u32>>>;

/// What a message asks for.
async fn obey(calls: Calls, msg: Message) -> Result<Outcome, BoxError> {
    let wish = String::from_utf8(msg.payload().to_vec())?;
    let calls = {
        let mut calls = calls.lock().unwrap();
        let calls = calls.entry(wish.clone()).or_default();
        *calls += 1;
        *calls
    };
    match &*wish {
        "third time" if calls < 3 => Err(failure("not yet")),
        "never" => Err(failure(&format!("try {calls}"))),
        "outage" => Err(Error::new(ErrorKind::Unavailable, "down").into()),
        "number" => msg.decode::<u32>().map(|_| Outcome::Ack).map_err(Into::into),
        "wrapped number" => {
            msg.decode::<u32>().map(|_| Outcome::Ack).map_err(|error| Wrapped(error).into())
        }
        "retry" => Ok(Outcome::retry()),
        "reject" => Ok(Outcome::reject("no")),
        "panic" => panic!("as told"),
        _ => Ok(Outcome::Ack),
    }
}

/// An error of an application's own.
#[derive(Debug)]
struct Wrapped(Error);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a number")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_tried_again_and_decisions_are_not() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let (calls, errors) = (Calls::default(), Errors::default());
        let quick = Backoff::fixed(Duration::from_millis(1));
        let call = pubsub.subscribe("t", with(calls.clone(), obey));
        let call = call.layer(Retry::times(4).backoff(quick)).layer(errors.clone());
        let subscription = call.await.unwrap();
        let wishes =
            ["fine", "third time", "never", "number", "wrapped number", "retry", "reject", "panic"];
        for wish in wishes {
            pubsub.publish_bytes("t", wish).await.unwrap();
        }
        done(&subscription, wishes.len() as u64).await;
        let calls = calls.lock().unwrap();
        let made: Vec<_> = wishes.iter().map(|wish| calls[*wish]).collect();
        assert_eq!(made, [1, 3, 4, 1, 1, 1, 1, 1]);
        let stats = subscription.stats();
        assert_eq!((stats.handled, stats.failed, stats.panicked), (2, 5, 1));
        assert_eq!(errors.all()[0], "try 4");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_errors_that_are_asked_for_are_tried_again() {
    let (_server, connectors) = connectors().await;
    for connector in connectors {
        let pubsub = connector.pubsub();
        let calls = Calls::default();
        let retry = Retry::times(3)
            .backoff(Backoff::list([]))
            .when(|error| error.downcast_ref::<Error>().is_some_and(Error::is_retryable));
        let handler = with(calls.clone(), obey);
        let subscription = pubsub.subscribe("t", handler).layer(retry).await.unwrap();
        for wish in ["outage", "never"] {
            pubsub.publish_bytes("t", wish).await.unwrap();
        }
        done(&subscription, 2).await;
        let calls = calls.lock().unwrap();
        assert_eq!((calls["outage"], calls["never"]), (3, 1));
        assert_eq!(subscription.stats().failed, 2);
    }
}
