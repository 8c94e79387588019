//! Unary calls beside the raw client's request and reply with the same work: decoded and encoded
//! at both ends.

use async_nats::Client;
use futures::StreamExt;
use nats_connector::rpc::{Endpoint, Method, Request, RpcError, ServiceConfig};
use nats_connector::{Connector, Settings};

use super::{Order, Sides, compare, many, wanted};

/// One call at a time, and 64 of them; each service on a connection of its own.
pub(super) async fn unary(sides: &Sides, url: &str) {
    if ![1, 64].into_iter().any(|concurrent| wanted(&name(1024, concurrent))) {
        return;
    }
    answer(async_nats::connect(url).await.unwrap()).await;
    let method = Method::<Order, Order>::json("echo");
    let settings = Settings::builder().set("NATS.SERVER", url).build().unwrap();
    let serving = Connector::connect(&settings).await.unwrap();
    let handler = |request: Request<Order>| async move { Ok::<_, RpcError>(request.into_inner()) };
    let endpoint = Endpoint::unary(&method, handler);
    let config = || ServiceConfig::new("bench_rpc");
    serving.rpc().service(config()).endpoint(endpoint).serve().await.unwrap();
    let client = sides.connector.rpc().client(config());
    for size in [16, 1024] {
        let order = Order::of(size);
        for (concurrent, n) in [(1, 2_000), (64, 20_000)] {
            compare(
                name(size, concurrent),
                || {
                    let (sides, order) = (sides.clone(), order.clone());
                    many(concurrent, n, move || {
                        let (sides, order) = (sides.clone(), order.clone());
                        async move {
                            let asked = sides.raw.request("bench_raw.echo", order.raw()).await;
                            Order::decode(&asked.unwrap().payload);
                        }
                    })
                },
                || {
                    let (client, method, order) = (client.clone(), method.clone(), order.clone());
                    many(concurrent, n, move || {
                        let (client, method, order) =
                            (client.clone(), method.clone(), order.clone());
                        async move {
                            let response = client.call(&method, order).await.unwrap();
                            std::hint::black_box(response.into_inner());
                        }
                    })
                },
            )
            .await;
        }
    }
}

fn name(size: usize, concurrent: usize) -> String {
    format!("rpc unary {size} B json, {concurrent} at once")
}

/// Answers as the raw client does it, one call after another.
async fn answer(client: Client) {
    let mut requests = client.queue_subscribe("bench_raw.echo", "q".into()).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let order: Order = serde_json::from_slice(&request.payload).unwrap();
            if let Some(reply) = request.reply {
                client.publish(reply, order.raw()).await.unwrap();
            }
        }
    });
}
