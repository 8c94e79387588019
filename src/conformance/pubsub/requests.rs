//! Questions and answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures::future::join_all;

use super::probe::{Inbox, Probe, text};
use crate::pubsub::driver::{Driver, OutboundMessage};

const PATIENCE: Duration = Duration::from_secs(5);

/// Answers `count` requests, the last one first, so that answers cannot be matched by order.
async fn answer(probe: Probe, mut inbox: Inbox, count: usize) {
    let mut asked = Vec::new();
    for _ in 0..count {
        asked.push(inbox.message("a request reaches its responder").await);
    }
    for request in asked.into_iter().rev() {
        let Some(subject) = request.reply.clone() else {
            probe.fail("a request has a reply subject", request)
        };
        let payload = format!("re: {}", text(&request)).into();
        let headers = request.headers;
        probe.send(OutboundMessage { subject, reply: None, headers, payload }).await;
    }
}

/// Each of several requests under way gets its own answer, headers too.
pub async fn requests(driver: &Arc<dyn Driver>) {
    const REQUESTS: usize = 50;
    let probe = Probe::new(driver, "requests");
    let inbox = probe.subscribe("ask", Some("responders")).await;
    let ask = join_all((0..REQUESTS).map(|n| {
        let probe = &probe;
        async move {
            let mut headers = HeaderMap::new();
            headers.append("Number", n.to_string());
            let message = probe.with_headers("ask", n.to_string(), headers);
            probe.ok("request", probe.request(message, PATIENCE)).await
        }
    }));
    let (answers, ()) = tokio::join!(ask, answer(probe.clone(), inbox, REQUESTS));
    for (n, found) in answers.iter().enumerate() {
        probe.check("each request gets its own answer", text(found) == format!("re: {n}"), found);
        let number = found.headers.as_ref().and_then(|headers| headers.get("Number"));
        let number = number.map(|number| number.as_str().to_owned());
        probe.check("an answer has its headers", number == Some(n.to_string()), number);
    }
}

/// A request that nobody subscribes to fails at once, as such.
pub async fn no_responders(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "no_responders");
    let elsewhere = probe.subscribe("elsewhere", None).await;
    let started = Instant::now();
    let result = probe.request(probe.message("ask", "?"), PATIENCE).await;
    let told = result.as_ref().is_err_and(crate::Error::is_no_responders);
    probe.check("no responders are told", told, result);
    probe.check("they are told before the deadline", started.elapsed() < PATIENCE, "too late");
    let all = elsewhere.all().await;
    probe.check("the request went nowhere else", all.is_empty(), all);
}

/// A request that somebody receives and nobody answers ends at its deadline, as a timeout.
pub async fn request_timeout(driver: &Arc<dyn Driver>) {
    let probe = Probe::new(driver, "request_timeout");
    let silent = probe.subscribe("ask", None).await;
    let deadline = Duration::from_millis(200);
    let started = Instant::now();
    let result = probe.request(probe.message("ask", "?"), deadline).await;
    let timeout = result.as_ref().is_err_and(|e| e.is_timeout() && !e.is_no_responders());
    probe.check("no answer is a timeout", timeout, result);
    let elapsed = started.elapsed();
    let in_time = elapsed >= deadline && elapsed < deadline + PATIENCE;
    probe.check("a timeout comes at the deadline", in_time, elapsed);
    let all = silent.all().await;
    probe.check("the request arrived once", all == ["?"], all);
}
