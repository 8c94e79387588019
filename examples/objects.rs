//! A file as an object: stored with progress, read back in part and whole, listed, watched.
//!
//! `cargo run --example objects` with a nats-server that has JetStream (`nats-server -js`).

#![expect(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;

use futures::{StreamExt, TryStreamExt};
use nats_connector::objects::{BucketConfig, Event};
use nats_connector::{Connector, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nats = Connector::connect(&Settings::load()?).await?;
    let config = BucketConfig::new("example-files").description("files of the example");
    let files = nats.objects().create_bucket(config).await?;

    // A file to store: a megabyte of numbered lines.
    let folder = std::env::temp_dir().join(format!("objects-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("lines.txt");
    let text: String = (0..100_000).map(|n| format!("line {n:05}\n")).collect();
    std::fs::write(&path, &text)?;

    let mut watcher = files.watch().await?;
    let info = files
        .put_file("lines.txt", &path)
        .content_type("text/plain")
        .metadata("owner", "ada")
        .progress(|so_far, total| {
            if Some(so_far) == total {
                println!("all {so_far} bytes are on their way");
            }
        })
        .await?;
    println!("stored {} bytes in {} chunks", info.size, info.chunks);

    // A part of it: only the chunks with these bytes are sent.
    let line = files.get_bytes("lines.txt").range(11 * 50_000..11 * 50_001).await?;
    println!("in the middle: {}", String::from_utf8_lossy(&line.unwrap_or_default()).trim());

    // All of it, into another file; its digest is checked on the way.
    let copy = folder.join("copy.txt");
    let read = files.get_to("lines.txt", tokio::fs::File::create(&copy).await?).await?;
    println!("the copy is the same: {}", read.is_some() && std::fs::read_to_string(&copy)? == text);
    println!("nobody stored that: {:?}", files.get_bytes("other.txt").await?);

    files.link("latest.txt", "lines.txt").await?;
    let mut names: Vec<_> = files.list().await?.map_ok(|object| object.name).try_collect().await?;
    names.sort();
    println!("in the bucket: {names:?}");

    files.delete("latest.txt").await?;
    while let Some(event) = watcher.next().await {
        match event? {
            Event::Put(object) => println!("watched: {} is there", object.name),
            Event::Deleted { name, .. } => {
                println!("watched: {name} is deleted");
                if name == "latest.txt" {
                    break;
                }
            }
            _ => {}
        }
    }
    std::fs::remove_dir_all(&folder)?;
    nats.drain().await;
    Ok(())
}
