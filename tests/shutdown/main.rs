//! The shutdown of a process: signals, hooks, the drain, the report, the exit code.
//!
//! Signals and the shutdown belong to a whole process, so each test runs this very program again
//! as a child that plays one of the [`scenarios`].

mod scenarios;

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use futures::StreamExt;
use nats_connector::pubsub::Messages;
use nats_connector::{Connector, Settings};
use testkit::{Program, Server, eventually};

/// Names the scenario to a child.
const SCENARIO: &str = "SHUTDOWN_SCENARIO";
/// Far above what any of them takes, and below the default drain timeout of 30 s.
const LIMIT: Duration = Duration::from_secs(25);

/// The child's part; in the parent, proof that a child without its scenario fails.
#[test]
fn scenario() {
    match std::env::var(SCENARIO) {
        Ok(name) => scenarios::play(&name),
        Err(_) => {
            let mut child = Program::start(&mut command("no such scenario", "memory:"));
            assert!(!child.wait(LIMIT).success(), "{}", child.output());
        }
    }
}

fn command(scenario: &str, server: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["scenario", "--exact", "--nocapture"]).env(SCENARIO, scenario);
    command.env("NATS_SERVER", server);
    command
}

/// A child with what it publishes, told by another connection.
struct Observed {
    server: Server,
    child: Program,
    connector: Connector,
    told: Messages,
}

impl Observed {
    /// Starts a scenario on a server of its own; the child is ready.
    async fn start(scenario: &str, settings: &[(&str, &str)]) -> Observed {
        let server = Server::builder().jetstream().start().await;
        let own = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
        let connector = Connector::connect(&own).await.unwrap();
        let told = connector.pubsub().messages("told.*").await.unwrap();
        let mut command = command(scenario, &server.url());
        let mut child = Program::start(command.envs(settings.iter().copied()));
        child.wait_for("ready", LIMIT);
        Observed { server, child, connector, told }
    }

    async fn work(&self, messages: u32) {
        for n in 0..messages {
            self.connector.pubsub().publish("work", &n).await.unwrap();
        }
        self.connector.pubsub().flush().await.unwrap();
    }

    /// Waits for `count` messages on `told.<what>`, with no other in between.
    async fn told(&mut self, what: &str, count: usize) {
        for n in 0..count {
            let next = tokio::time::timeout(LIMIT, self.told.next()).await;
            let message = next.unwrap_or_else(|_| panic!("{what} was told {n} of {count} times"));
            assert_eq!(message.unwrap().topic(), format!("told.{what}"));
        }
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait(LIMIT)
    }

    #[track_caller]
    fn assert_end(&mut self, code: i32, report: &str) {
        let status = self.end();
        let output = self.child.output();
        assert_eq!(status.code(), Some(code), "{status}:\n{output}");
        assert!(output.contains(report), "no {report:?} in\n{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_at_work_finish_and_what_they_publish_and_store_arrives() {
    let mut observed = Observed::start("slow", &[]).await;
    // Three run at once, two wait.
    observed.work(5).await;
    observed.told("begun", 3).await;
    observed.child.signal("TERM");
    observed.assert_end(0, "report: 5 handlers finished, 0 abandoned, all proved sent");
    // The other two began when the first three were done.
    let mut told = Vec::new();
    while told.len() < 7 {
        let next = tokio::time::timeout(LIMIT, observed.told.next()).await;
        told.push(next.expect("7 messages in time").unwrap().topic().to_owned());
    }
    assert_eq!(told.iter().filter(|topic| *topic == "told.done").count(), 5, "{told:?}");
    for n in 0..5 {
        let stored = observed.connector.kv().get(format!("work:{n}")).await.unwrap();
        assert_eq!(stored, Some("done".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_signals_shuts_down_without_wait() {
    for signal in ["TERM", "INT"] {
        let mut observed = Observed::start("with signals", &[]).await;
        observed.work(1).await;
        observed.told("begun", 1).await;
        observed.child.signal(signal);
        observed.told("done", 1).await;
        observed.assert_end(0, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_wait_a_signal_ends_the_process_undrained() {
    let mut observed = Observed::start("no listener", &[]).await;
    observed.work(1).await;
    observed.told("begun", 1).await;
    observed.child.signal("TERM");
    assert_eq!(observed.end().code(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_never_end_are_given_up_at_the_drain_timeout() {
    let mut observed = Observed::start("stuck", &[("NATS_DRAIN_TIMEOUT", "1s")]).await;
    // Two run, three wait: one in the hands of the loop, two at the connection.
    observed.work(5).await;
    observed.told("begun", 2).await;
    let begun = Instant::now();
    observed.child.signal("TERM");
    observed.assert_end(1, "report: 0 handlers finished, 5 abandoned");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_process_at_once() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut observed = Observed::start("stuck", &[("NATS_DRAIN_TIMEOUT", "1h")]).await;
        observed.work(2).await;
        observed.told("begun", 2).await;
        observed.child.signal("TERM");
        observed.child.wait_for("requested", LIMIT);
        observed.child.signal(signal);
        observed.assert_end(code, "");
        assert!(!observed.child.output().contains("report"), "{}", observed.child.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_are_seen_while_handlers_block_their_threads() {
    let mut observed = Observed::start("blocked", &[]).await;
    observed.work(64).await;
    observed.child.wait_for("blocked", LIMIT);
    observed.child.signal("TERM");
    observed.child.wait_for("requested", LIMIT);
    observed.child.signal("TERM");
    observed.assert_end(143, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn trigger_is_a_signal_from_within() {
    let mut observed = Observed::start("trigger", &[]).await;
    observed.work(1).await;
    observed.told("begun", 1).await;
    observed.assert_end(0, "report: 1 handlers finished, 0 abandoned, all proved sent");
    observed.told("done", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_last_first_whatever_the_others_do() {
    let mut observed = Observed::start("hooks", &[("NATS_HOOK_TIMEOUT", "2s")]).await;
    let begun = Instant::now();
    observed.child.signal("TERM");
    let hooks = r#"hooks: [("publishes", Done), ("errs", Failed("no disk")), ("panics", Panicked("on await")), ("panics at once", Panicked("at once")), ("registers", Done), ("registered late", Done), ("hangs", TimedOut), ("too late", NotRun)]"#;
    observed.assert_end(1, hooks);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // The connection was still there for the hooks.
    observed.told("hook", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_blocks_its_thread_is_given_up_too() {
    let mut observed = Observed::start("blocking hook", &[("NATS_HOOK_TIMEOUT", "500ms")]).await;
    observed.child.signal("TERM");
    observed.assert_end(1, r#"hooks: [("blocks", TimedOut)]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_is_idempotent_and_what_comes_after_it_is_closed() {
    let mut observed = Observed::start("run twice", &[]).await;
    observed.assert_end(0, "report: 0 handlers finished, 0 abandoned, all proved sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_holds_up_the_end_until_the_drain_timeout_at_most() {
    let settings = [("NATS_DRAIN_TIMEOUT", "2s"), ("NATS_WHEN_DISCONNECTED", "wait")];
    let mut observed = Observed::start("slow", &settings).await;
    observed.server.kill().await;
    observed.child.wait_for("disconnected", LIMIT);
    let begun = Instant::now();
    observed.child.signal("TERM");
    observed.assert_end(1, "0 abandoned, NOT proved sent");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_while_draining_is_no_proof() {
    let mut observed = Observed::start("lost on the way", &[("NATS_RECONNECT_WAIT", "50ms")]).await;
    observed.work(1).await;
    observed.told("begun", 1).await;
    observed.child.signal("TERM");
    let left = || async { !observed.server.connz().await.to_string().contains("\"work\"") };
    eventually(LIMIT, left).await;
    observed.server.restart().await;
    observed.assert_end(1, "report: 1 handlers finished, 0 abandoned, NOT proved sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_drain_at_once_each_within_its_own_timeout() {
    // One after the other would take 12 s.
    let settings = [("NATS_DRAIN_TIMEOUT", "6s"), ("AUDIT_DRAIN_TIMEOUT", "6s")];
    let mut observed = Observed::start("two connectors", &settings).await;
    observed.work(1).await;
    observed.told("begun", 2).await;
    let begun = Instant::now();
    observed.child.signal("TERM");
    observed.assert_end(1, "report: 0 handlers finished, 2 abandoned");
    assert!(begun.elapsed() < Duration::from_millis(11_500), "{:?}", begun.elapsed());

    let settings = [("NATS_DRAIN_TIMEOUT", "500ms"), ("AUDIT_DRAIN_TIMEOUT", "4s")];
    let mut observed = Observed::start("two connectors", &settings).await;
    observed.work(1).await;
    observed.told("begun", 2).await;
    let begun = Instant::now();
    observed.child.signal("TERM");
    observed.assert_end(1, "report: 0 handlers finished, 2 abandoned");
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
}
