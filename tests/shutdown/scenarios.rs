//! What the children do. Each ends its process.

#![expect(clippy::print_stdout, reason = "the parent reads it")]

use std::future::{Ready, pending};
use std::time::Duration;

use nats_connector::connector::State;
use nats_connector::pubsub::{self, Message};
use nats_connector::shutdown::{self, ShutdownReport};
use nats_connector::{BoxError, Connector, ErrorKind, Settings, kv, register};
use tokio::time::{sleep, timeout};

/// How long the slow handlers take.
const WORK: Duration = Duration::from_secs(2);

pub(crate) fn play(name: &str) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        match name {
            "slow" => slow().await,
            "with signals" => with_signals().await,
            "no listener" => no_listener().await,
            "stuck" => stuck().await,
            "blocked" => blocked().await,
            "trigger" => trigger().await,
            "hooks" => hooks().await,
            "blocking hook" => blocking_hook().await,
            "run twice" => run_twice().await,
            "lost on the way" => lost_on_the_way().await,
            "two connectors" => two_connectors().await,
            _ => panic!("there is no scenario {name:?}"),
        }
    });
}

fn say(text: &str) {
    println!("{text}");
}

fn end(report: &ShutdownReport) -> ! {
    say(&format!("report: {report}\n{report:?}"));
    std::process::exit(report.exit_code());
}

/// Ready as soon as signals are caught.
async fn wait() -> ! {
    let report = shutdown::wait();
    say("ready");
    end(&report.await)
}

/// Tells the observer.
async fn tell(what: &'static str) -> nats_connector::Result<()> {
    pubsub::publish(format!("told.{what}"), "").await
}

async fn work_slowly(message: Message) -> nats_connector::Result<()> {
    tell("begun").await?;
    sleep(WORK).await;
    let n: u32 = message.decode()?;
    kv::set(format!("work:{n}"), "done").await?;
    tell("done").await
}

async fn work_for_ever(_: Message) -> nats_connector::Result<()> {
    tell("begun").await?;
    pending().await
}

async fn slow() {
    let connector = register().await.unwrap();
    pubsub::subscribe("work", work_slowly).concurrency(3).await.unwrap();
    tokio::spawn(async move {
        while connector.state() != State::Disconnected {
            sleep(Duration::from_millis(10)).await;
        }
        say("disconnected");
    });
    wait().await;
}

async fn with_signals() {
    register().with_signals().await.unwrap();
    pubsub::subscribe("work", work_slowly).await.unwrap();
    say("ready");
    pending::<()>().await;
}

async fn no_listener() {
    register().await.unwrap();
    pubsub::subscribe("work", work_slowly).await.unwrap();
    say("ready");
    pending::<()>().await;
}

/// Handlers block threads of the runtime, perhaps all: only other threads surely go on.
async fn blocked() {
    register().await.unwrap();
    let block = |_: Message| async {
        say("blocked");
        std::thread::sleep(Duration::from_secs(3600));
    };
    pubsub::subscribe("work", block).concurrency(64).await.unwrap();
    std::thread::spawn(|| {
        while !shutdown::is_requested() {
            std::thread::sleep(Duration::from_millis(5));
        }
        say("requested");
    });
    wait().await;
}

async fn stuck() {
    register().await.unwrap();
    pubsub::subscribe("work", work_for_ever).concurrency(2).await.unwrap();
    tokio::spawn(async {
        shutdown::requested().await;
        say("requested");
    });
    wait().await;
}

async fn trigger() {
    register().await.unwrap();
    let handler = |message| {
        shutdown::trigger();
        work_slowly(message)
    };
    pubsub::subscribe("work", handler).await.unwrap();
    wait().await;
}

async fn hooks() {
    register().await.unwrap();
    shutdown::on_shutdown("too late", || async { say("ran") }).unwrap();
    shutdown::on_shutdown("hangs", pending::<()>).unwrap();
    shutdown::on_shutdown("registers", || async {
        shutdown::on_shutdown("registered late", || async {})
    })
    .unwrap();
    shutdown::on_shutdown("panics at once", panics_at_once).unwrap();
    shutdown::on_shutdown("panics", panics).unwrap();
    shutdown::on_shutdown("errs", || async { Err::<(), BoxError>("no disk".into()) }).unwrap();
    shutdown::on_shutdown("publishes", || tell("hook")).unwrap();
    wait().await;
}

async fn panics() {
    panic!("on {}", "await");
}

/// Has no future to panic in.
fn panics_at_once() -> Ready<()> {
    panic!("at once")
}

async fn blocking_hook() {
    register().await.unwrap();
    shutdown::on_shutdown("blocks", || async { std::thread::sleep(WORK * 30) }).unwrap();
    wait().await;
}

async fn run_twice() {
    let connector = register().await.unwrap();
    let settings = connector.settings().clone();
    shutdown::on_shutdown("connects", move || async move {
        let refused = Connector::connect(&settings).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed, "while shutting down");
        sleep(Duration::from_millis(100)).await;
    })
    .unwrap();
    say("ready");

    // Given up at once; the shutdown goes on.
    assert!(timeout(Duration::ZERO, shutdown::run()).await.is_err());
    let (first, second) = tokio::join!(shutdown::run(), shutdown::run());
    assert_eq!(first, second);
    assert_eq!(first, shutdown::run().await);
    assert_eq!(first, shutdown::wait().await);
    assert!(shutdown::is_requested());
    shutdown::requested().await;

    let kind = |result: nats_connector::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(register().await.map(drop)), ErrorKind::Closed);
    assert_eq!(kind(pubsub::publish("work", &1).await), ErrorKind::Closed);
    assert_eq!(kind(kv::set("key", &1).await.map(drop)), ErrorKind::Closed);
    assert_eq!(kind(pubsub::subscribe("work", work_slowly).await.map(drop)), ErrorKind::Closed);
    assert_eq!(kind(shutdown::on_shutdown("late", || async {})), ErrorKind::Closed);
    assert_eq!(connector.state(), State::Closed);

    // A connection that is its owner's to drain.
    let after = Connector::connect(&Settings::load().unwrap()).await.unwrap();
    after.pubsub().publish("work", &1).await.unwrap();
    assert!(after.drain().await.is_clean());
    end(&first)
}

async fn lost_on_the_way() {
    let connector = register().await.unwrap();
    let handler = move |_: Message| {
        let connector = connector.clone();
        async move {
            tell("begun").await?;
            while connector.health().await.reconnects == 0 {
                sleep(Duration::from_millis(10)).await;
            }
            tell("done").await
        }
    };
    pubsub::subscribe("work", handler).await.unwrap();
    wait().await;
}

async fn two_connectors() {
    register().await.unwrap();
    let settings = Settings::builder().domain("AUDIT").env();
    let server = std::env::var("NATS_SERVER").unwrap();
    let settings = settings.set("AUDIT.SERVER", server).build().unwrap();
    let audit = Connector::connect(&settings).await.unwrap();
    pubsub::subscribe("work", work_for_ever).await.unwrap();
    audit.pubsub().subscribe("work", work_for_ever).await.unwrap();
    wait().await;
}
