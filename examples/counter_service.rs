//! A counter service, with two kinds of counters, each in its place.
//!
//! - Page views are counted by the server: one hot key, any number of writers on any number of
//!   machines, no lifetime. An add is one message without a condition, so writers never collide, and
//!   one whose answer was lost is not counted twice.
//! - Downloads of a user are limited for each day: many keys, few writers each, and a lifetime, which
//!   server-side counters cannot have. A plain increment is a compare-and-set in a bucket.
//!
//! ```text
//! cargo run --example counter_service            # against nats-server 2.12; run several at once
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::time::Duration;

use futures::future::try_join_all;
use nats_connector::pubsub::{Message, with};
use nats_connector::{Connector, Counters, Result, kv::Kv};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Downloads of one user in a day.
const LIMIT: i64 = 10;

#[derive(Clone)]
struct Service {
    views: Counters,
    downloads: Kv,
}

/// Counts a view; answers with the page's number of views.
async fn view(service: Service, message: Message) -> Result<()> {
    let page: String = message.decode()?;
    let views = service.views.increment(page, 1).await?;
    message.respond(&views).await
}

/// Counts a download; answers whether it is within the day's limit.
async fn download(service: Service, message: Message) -> Result<()> {
    let user: String = message.decode()?;
    let downloads = service.downloads.increment(user, 1).ttl_on_create(DAY).await?;
    message.respond(&(downloads <= LIMIT)).await
}

#[tokio::main]
async fn main() -> Result<()> {
    let connector = Connector::from_settings().await?;
    let service = Service {
        views: connector.counters("page-views"),
        downloads: connector.kv().bucket("downloads"),
    };
    let pubsub = connector.pubsub();
    let views = with(service.clone(), view);
    pubsub.subscribe("count.view", views).queue("counters").concurrency(64).await?;
    let downloads = with(service.clone(), download);
    pubsub.subscribe("count.download", downloads).queue("counters").concurrency(64).await?;

    // 400 visitors at once; any instance may answer.
    let visits = (0..400).map(|_| {
        let visit = pubsub.request("count.view", "/welcome");
        async move { visit.await?.decode::<i64>() }
    });
    let seen = try_join_all(visits).await?;
    println!("400 views of /welcome; the last one was number {}", seen.iter().max().unwrap_or(&0));

    let downloads = (0..50).map(|_| {
        let download = pubsub.request("count.download", "ada");
        async move { download.await?.decode::<bool>() }
    });
    let allowed = try_join_all(downloads).await?.into_iter().filter(|allowed| *allowed).count();
    println!("50 downloads by ada: {allowed} allowed");

    for page in service.views.keys().await? {
        let views = service.views.get(&page).consistent().await?;
        println!("{page}: {} views", views.unwrap_or(0));
    }
    let drained = connector.drain().await;
    std::process::exit(i32::from(!drained.is_clean()));
}
