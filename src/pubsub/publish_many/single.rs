//! A pipeline for every driver that acknowledges single messages.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::Subject;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::deadline::after;
use crate::error::{ErrorKind, Result};
use crate::pubsub::Ack;
use crate::pubsub::driver::{Acked, Answer, Driver, Fate, OutboundMessage, Pipeline};

pub(super) struct Single {
    driver: Arc<dyn Driver>,
    timeout: Duration,
    under_way: FuturesUnordered<BoxFuture<'static, (u64, Result<Ack>)>>,
    /// The stream of the last answer: mostly that of the next one.
    stream: Arc<str>,
}

impl Single {
    pub(super) fn new(driver: Arc<dyn Driver>, timeout: Duration) -> Self {
        Single { driver, timeout, under_way: FuturesUnordered::new(), stream: "".into() }
    }

    fn fate(&mut self, answer: Result<Ack>) -> Fate {
        match answer {
            Ok(ack) => {
                if *self.stream != *ack.stream {
                    self.stream = ack.stream.into();
                }
                Fate::Acked(Acked::new(self.stream.clone(), Some(ack.sequence), ack.duplicate))
            }
            Err(error) if error.is_no_responders() => Fate::NotTaken(Some(error)),
            // What a stream refused is not stored.
            Err(error) if error.context("err_code").is_some() => Fate::Refused(error),
            Err(error) => match error.kind() {
                ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Other => {
                    Fate::Doubtful(error)
                }
                _ => Fate::Refused(error),
            },
        }
    }
}

impl Pipeline for Single {
    fn poll_ready(&mut self, _: &Subject, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, number: u64, message: OutboundMessage) -> Result<()> {
        let (driver, deadline) = (self.driver.clone(), after(self.timeout));
        self.under_way
            .push(Box::pin(async move { (number, driver.publish_acked(message, deadline).await) }));
        Ok(())
    }

    fn flush(&mut self) {}

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        match self.under_way.poll_next_unpin(cx) {
            Poll::Ready(Some((number, answer))) => {
                Poll::Ready(Answer::One(number, self.fate(answer)))
            }
            // Whoever sends the next message polls again.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn look(&mut self, _: &dyn Fn(&str) -> bool) {}

    fn fast(&self) -> u64 {
        0
    }
}
