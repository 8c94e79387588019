//! The raw async-nats client beside the library: request and reply, and a queue subscriber.
//!
//! Both sides are plain NATS, so either end can be the raw one. What is subscribed with the raw
//! client is not drained: it is on its own at shutdown.

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use futures::StreamExt;
use nats_connector::pubsub::Message;
use nats_connector::{BoxError, pubsub, shutdown};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let connector = nats_connector::register().await?;
    let client = connector.client()?;

    // A raw queue subscriber, asked by the library.
    let mut questions = client.queue_subscribe("math.double", "doublers".into()).await?;
    let answers = client.clone();
    let doubler = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let n: i64 = serde_json::from_slice(&question.payload)?;
            if let Some(reply) = question.reply {
                answers.publish(reply, (n * 2).to_string().into()).await?;
            }
        }
        Ok::<_, BoxError>(())
    });
    let double: i64 = pubsub::request("math.double", &21).await?.decode()?;
    println!("math.double 21 = {double}, answered by the raw client");

    // A handler of the library, asked by the raw client.
    pubsub::subscribe("math.square", square).queue("squarers").await?;
    let answer = client.request("math.square", "12".into()).await?;
    println!("math.square 12 = {}, asked by the raw client", str::from_utf8(&answer.payload)?);

    // Whom nobody answers is told at once, not at the deadline.
    let error = pubsub::request("math.cube", &3).await.expect_err("nobody serves it");
    println!("math.cube: {error}");

    doubler.abort();
    let report = shutdown::run().await;
    println!("shut down: {report}");
    std::process::exit(report.exit_code());
}

async fn square(message: Message) -> nats_connector::Result<()> {
    let n: i64 = message.decode()?;
    message.respond(&(n * n)).await
}
