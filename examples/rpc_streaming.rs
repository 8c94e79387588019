//! Streaming calls: a stream of responses, a stream of requests, and both at once.
//!
//! Readings come as fast as they are read, a handler learns when its caller leaves, and what breaks
//! off is an error, never an end.
//!
//! `cargo run --example rpc_streaming`, with a nats-server at `NATS_SERVER` (default
//! `nats://127.0.0.1:4222`).

#![expect(clippy::print_stdout, reason = "the output is what it is for")]

use nats_connector::rpc::{
    self, Endpoint, Method, Receiver, Request, RpcError, Sender, ServiceConfig,
};
use nats_connector::{Connector, Settings};

/// What both sides know of the service.
fn config() -> ServiceConfig {
    ServiceConfig::new("readings").version("1.0.0").prefix("api.v1.readings")
}

/// So many readings.
fn latest() -> Method<u32, f64> {
    Method::json("latest").window(64)
}

/// The mean of readings.
fn mean() -> Method<f64, f64> {
    Method::json("mean")
}

/// Each reading in Fahrenheit.
fn convert() -> Method<f64, f64> {
    Method::json("convert")
}

async fn send_latest(request: Request<u32>, mut readings: Sender<f64>) -> rpc::Result<()> {
    for n in 0..*request.get() {
        // Waits while the caller has enough to read; fails when it has gone.
        readings.send(20.0 + f64::from(n) / 10.0).await?;
    }
    Ok(())
}

async fn take_mean(request: Request<Receiver<f64>>) -> rpc::Result<f64> {
    let mut readings = request.into_inner();
    let (mut sum, mut count) = (0.0, 0.0);
    // A caller that breaks off is an error here, so no mean is made of half of its readings.
    while let Some(reading) = readings.next().await {
        sum += reading?;
        count += 1.0;
    }
    if count == 0.0 {
        return Err(RpcError::invalid_argument("no reading, no mean"));
    }
    Ok(sum / count)
}

async fn send_converted(request: Request<Receiver<f64>>, mut out: Sender<f64>) -> rpc::Result<()> {
    let mut readings = request.into_inner();
    while let Some(reading) = readings.next().await {
        out.send(reading? * 9.0 / 5.0 + 32.0).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::builder().env().build()?;
    let connector = Connector::connect(&settings).await?;
    let service = connector
        .rpc()
        .service(config())
        .endpoint(Endpoint::server_stream(&latest(), send_latest))
        .endpoint(Endpoint::client_stream(&mean(), take_mean))
        .endpoint(Endpoint::bidi(&convert(), send_converted))
        .serve()
        .await?;
    println!("{} serves", service.name());

    let client = connector.rpc().client(config());
    let mut readings = client.server_stream(&latest(), 1_000).await?;
    let mut count = 0;
    while let Some(reading) = readings.next().await {
        reading?;
        count += 1;
    }
    println!("{count} readings came");

    let mut stream = client.client_stream(&mean()).await?;
    for reading in [19.5, 20.0, 20.5] {
        stream.send(reading).await?;
    }
    println!("their mean is {}", stream.finish().await?.into_inner());

    let none = client.client_stream(&mean()).await?.finish().await;
    if let Err(error) = none {
        println!("of none: {error}");
    }

    let (mut celsius, mut fahrenheit) = client.bidi(&convert()).await?;
    for reading in [0.0, 100.0] {
        celsius.send(reading).await?;
        if let Some(converted) = fahrenheit.next().await {
            println!("{reading} C are {} F", converted?);
        }
    }
    celsius.finish().await?;
    assert!(fahrenheit.next().await.is_none());

    connector.drain().await;
    println!("done");
    Ok(())
}
