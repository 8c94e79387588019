//! `cargo xtask server`: a JetStream server to play with.

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use testkit::{Server, ServerBuilder, fetch};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Outcome, no_arguments};

/// Where NATS clients look first.
const PORT: u16 = 4222;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).is_ok();
    let builder = if free {
        recent()?.port(PORT)
    } else {
        println!("port {PORT} is taken, so this server has another one");
        recent()?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(serve(builder))
}

/// A JetStream server from `NATS_SERVER_BIN`, `PATH` or the cache.
pub(crate) fn recent() -> Result<ServerBuilder, String> {
    let binary = fetch::any_recent().map_err(|missing| missing.to_string())?;
    Ok(Server::builder().binary(binary).jetstream())
}

async fn serve(builder: ServerBuilder) -> Outcome {
    let listen = |kind| signal(kind).map_err(|error| format!("listen for signals: {error}"));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut server = builder.start().await;
    println!("{} is ready, with JetStream; monitor: {}", server.url(), server.monitor_url());
    println!("Ctrl-C (or kill {}) stops it and deletes its data", std::process::id());
    let ended = async {
        while server.is_running() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = ended => return Err(format!("the server ended; its log:\n{}", server.log())),
    }
    server.stop().await;
    println!("stopped");
    Ok(ExitCode::SUCCESS)
}
