//! The answers to PING, INFO and STATS, at all levels: `$SRV.<verb>[.<name>[.<id>]]`.

use std::time::Duration;

use futures::future::try_join_all;
use serde::Serialize;

use super::Service;
use crate::error::Result;
use crate::pubsub::Message;
use crate::rpc::micro::ServicePing;

#[derive(Debug, Clone, Copy)]
enum Verb {
    Ping,
    Info,
    Stats,
}

/// Subscribes to all verbs; none of them is in a queue group.
pub(super) async fn answer(service: &Service, timeout: Option<Duration>) -> Result<()> {
    let (name, id) = (service.name(), service.id());
    let levels = [String::new(), format!(".{name}"), format!(".{name}.{id}")];
    let verbs = [("PING", Verb::Ping), ("INFO", Verb::Info), ("STATS", Verb::Stats)];
    let subscribing = verbs.iter().flat_map(|(text, verb)| {
        levels.iter().map(move |level| (format!("$SRV.{text}{level}"), *verb))
    });
    let subscribing = subscribing.map(|(subject, verb)| async move {
        let told = service.clone();
        let handler = move |message: Message| tell(told.clone(), verb, message);
        let pubsub = service.0.rpc.pubsub();
        let mut subscribe = pubsub.subscribe(subject, handler).ignore_prefix();
        if let Some(timeout) = timeout {
            subscribe = subscribe.timeout(timeout);
        }
        service.add(subscribe.await?);
        Ok::<_, crate::Error>(())
    });
    try_join_all(subscribing).await.map(drop)
}

async fn tell(service: Service, verb: Verb, message: Message) -> Result<()> {
    // Whoever only publishes waits for nothing.
    if message.reply().is_none() {
        return Ok(());
    }
    let answer = match verb {
        Verb::Ping => json(&ServicePing::of(&service.0)),
        Verb::Info => json(&service.info()),
        Verb::Stats => json(&service.stats()),
    };
    message.respond_bytes(answer?).await
}

fn json(answer: &impl Serialize) -> Result<bytes::Bytes> {
    crate::Serializer::json().encode(answer)
}
