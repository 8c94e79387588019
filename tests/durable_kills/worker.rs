//! The worker: this program again, as a child that handles `jobs.>`.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nats_connector::Backoff;
use nats_connector::pubsub::Message;
use testkit::Program;

use super::{LIMIT, connect};

/// Makes this program a worker when it runs again as a child.
const SERVER: &str = "DURABLE_WORKER";
/// The file that takes a line for each message that was handled.
const EFFECTS: &str = "DURABLE_WORKER_EFFECTS";
/// What the worker makes of the message `poison`.
const POISON: &str = "DURABLE_WORKER_POISON";

pub(crate) const DURABLE: &str = "work";
/// How often a message is delivered at most.
pub(crate) const DELIVERIES: u64 = 5;
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(2);

/// What a worker makes of poison.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Poison {
    /// It fails.
    Fails,
    /// It ends the process at its last delivery.
    Kills,
    /// It is handled: somebody mended the worker.
    Cured,
}

impl Poison {
    const ALL: [(Poison, &str); 3] =
        [(Poison::Fails, "fails"), (Poison::Kills, "kills"), (Poison::Cured, "cured")];

    fn name(self) -> &'static str {
        Poison::ALL.iter().find(|(poison, _)| *poison == self).unwrap().1
    }

    fn named(name: &str) -> Poison {
        Poison::ALL.iter().find(|(_, known)| *known == name).unwrap().0
    }
}

/// Starts a worker; it is subscribed when this is done.
pub(crate) fn start(url: &str, effects: &Path, poison: Poison) -> Program {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["worker::work", "--exact", "--nocapture"]);
    command.env(SERVER, url).env(EFFECTS, effects).env(POISON, poison.name());
    let mut child = Program::start(&mut command);
    child.wait_for("subscribed", LIMIT);
    child
}

/// How often each message was handled.
pub(crate) fn effects(file: &Path) -> HashMap<String, u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut counts = HashMap::new();
    for line in text.lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// The child's part.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the parent reads it")]
async fn work() {
    let Ok(url) = std::env::var(SERVER) else { return };
    let poison = Poison::named(&std::env::var(POISON).unwrap());
    // One write for each line: what a killed process wrote stays.
    let file = OpenOptions::new().create(true).append(true).open(std::env::var(EFFECTS).unwrap());
    let file = Arc::new(file.unwrap());
    let handle = move |msg: Message| {
        let file = file.clone();
        async move {
            let job: String = msg.decode()?;
            (&*file).write_all(format!("{job}\n").as_bytes())?;
            if job != "poison" || poison == Poison::Cured {
                return Ok::<_, nats_connector::BoxError>(());
            }
            let deliveries = msg.delivery().map(|delivery| delivery.deliveries());
            if poison == Poison::Kills && deliveries == Some(DELIVERIES) {
                std::process::abort();
            }
            Err("it is poison".into())
        }
    };
    let connector = connect(&url).await;
    let subscription = connector
        .pubsub()
        .subscribe("jobs.>", handle)
        .concurrency(4)
        .durable(DURABLE)
        .ack_wait(ACK_WAIT)
        .max_deliver(DELIVERIES)
        .backoff(Backoff::fixed(Duration::from_millis(50)))
        .timeout(LIMIT)
        .await
        .unwrap();
    println!("subscribed");
    // Until the parent ends it.
    std::future::pending::<()>().await;
    drop(subscription);
}
