//! Imports a file into a stream, line by line, with progress.
//!
//! Every line is a message with an id made of the file's name and the line's number. So a line whose
//! acknowledgement was lost is sent again without harm, and so is the whole file: a second run within
//! the stream's duplicate window (here an hour) stores nothing twice, also after the first one was
//! killed in the middle.
//!
//! ```text
//! seq 1000000 > lines.txt
//! cargo run --release --example import_file -- lines.txt
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use nats_connector::Connector;
use nats_connector::streams::StreamConfig;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("give the file to import as an argument")?;
    let name = Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let connector = Connector::from_settings().await?;
    let pubsub = connector.pubsub();

    // Fast ingest needs nats-server 2.14; an older one gets a stream without, and the window.
    let lines = || StreamConfig::new("IMPORT", ["import.>"]).duplicate_window(HOUR);
    if let Err(error) = pubsub.stream(lines().fast_ingest(true)).await {
        println!("without fast ingest: {error}");
        pubsub.stream(lines()).await?;
    }

    // The file is read as fast as the stream takes it: no more than a window of it is in memory.
    let handle = pubsub.clone();
    let items = BufReader::new(File::open(&path)?)
        .lines()
        .map_while(Result::ok)
        .map(move |line| handle.publish_bytes("import.lines", line));
    let report = pubsub
        .publish_many(items)
        .message_ids(name)
        .progress(Duration::from_secs(1), |progress| {
            let seconds = progress.elapsed.as_secs_f64().max(0.001);
            let rate = progress.done() as f64 / seconds;
            println!("{} lines, {} failed, {rate:.0}/s", progress.done(), progress.failed);
        })
        .await?;

    // With fast ingest the stream does not tell which lines it had already: they count as stored.
    for failure in &report.failures {
        println!("line {}: {}", failure.index + 1, failure.error);
    }
    let report = report.into_result()?;
    println!(
        "{} lines in the stream by {} in {:.1?}, {} of them were there before",
        report.stored + report.duplicates,
        report.way,
        report.elapsed,
        report.duplicates
    );
    Ok(())
}
