//! Every example runs against a real server, prints what it promises and ends well.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use futures::StreamExt;
use nats_connector::{Connector, Settings};
use testkit::{Program, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far above what any of them takes.
const LIMIT: Duration = Duration::from_secs(60);

/// The folder of the examples' programs. Only a full `cargo test` builds them, so they are built
/// here: else a test by itself would run old ones.
static PROGRAMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().expect("the path of this program");
    let folder = test.ancestors().nth(2).expect("target/<profile>/deps/");
    let mut build = testkit::cargo();
    build.args(["build", "--quiet", "--examples", "--features", "macros"]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the examples cannot be built");
    folder.join("examples")
});

fn example(name: &str, server: &str) -> Command {
    let mut command = Command::new(PROGRAMS.join(name));
    command.env("NATS_SERVER", server);
    command
}

async fn jetstream() -> Server {
    Server::builder().jetstream().start().await
}

/// Runs an example to its end, which must be a good one; what it printed.
fn run(command: &mut Command) -> String {
    let mut program = Program::start(command);
    let status = program.wait(LIMIT);
    assert!(status.success(), "{status}:\n{}", program.output());
    program.output().to_owned()
}

#[track_caller]
fn assert_has(output: &str, texts: &[&str]) {
    for text in texts {
        assert!(output.contains(text), "no {text:?} in\n{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_profile() {
    let server = jetstream().await;
    let output = run(&mut example("rpc_profile", &server.url()));
    assert_has(
        &output,
        &["Ada from the service", "Ada from the store", "43: UNAVAILABLE", "12 lines"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart() {
    let server = jetstream().await;
    let mut program = Program::start(&mut example("quickstart", &server.url()));
    program.wait_for("waiting for Ctrl-C", LIMIT);
    program.signal("INT");
    let status = program.wait(LIMIT);
    assert!(status.success(), "{status}:\n{}", program.output());
    let promised = [
        "orders.created Order { id: 1, total: 9.5 }",
        "order 2 costs 24 with tax",
        "user:1 = Some(\"Ada\")",
        "0 abandoned, all proved sent",
    ];
    assert_has(program.output(), &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_stopped_in_the_middle_lose_nothing() {
    let server = jetstream().await;
    let mut program = Program::start(&mut example("orders", &server.url()));
    program.wait_for("halfway", LIMIT);
    program.signal("TERM");
    let status = program.wait(LIMIT);
    assert!(status.success(), "{status}:\n{}", program.output());
    let count = |name: &str| {
        let line = program.output().lines().find(|line| line.trim_start().starts_with(name));
        let words = line.unwrap().split_whitespace().nth(1);
        words.unwrap().parse::<u32>().unwrap()
    };
    assert!((200..400).contains(&count("published")), "{}", program.output());
    assert_eq!(count("published"), count("handled"));
    assert_has(program.output(), &["nothing was lost", "KV worker-1:", "KV worker-2:"]);

    // Again on the same server, and to the end: earlier totals do not count.
    let output = run(&mut example("orders", &server.url()));
    assert_has(&output, &["all 400 orders are published", "nothing was lost"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_are_lost_are_told() {
    let server = jetstream().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    // A third member of the group takes orders and stores nothing.
    let thief = connector.pubsub().subscribe("shop.orders.created", |_| async {});
    thief.queue("workers").await.unwrap();
    let mut program = Program::start(&mut example("orders", &server.url()));
    assert_eq!(program.wait(LIMIT).code(), Some(1), "{}", program.output());
    assert_has(program.output(), &["ORDERS WERE LOST"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn import_file() {
    let server = jetstream().await;
    let lines = testkit::size(3_000_u64, 1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.txt");
    let text: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
    std::fs::write(&path, text).unwrap();
    let import = || {
        let mut command = example("import_file", &server.url());
        command.arg(&path);
        command
    };
    let done = format!("{lines} lines in the stream by fast ingest");
    let stored = || async {
        let streams = server.monitor("/jsz?streams=1").await;
        streams["account_details"][0]["stream_detail"][0]["state"]["messages"].as_u64()
    };
    // Killed in the middle, if it is not too fast for that, and run again, twice.
    let mut killed = Program::start(&mut import());
    testkit::eventually(LIMIT, || async { stored().await > Some(0) }).await;
    killed.signal("KILL");
    killed.wait(LIMIT);
    for _ in 0..2 {
        let output = run(&mut import());
        assert_has(&output, &[&done]);
        assert_eq!(stored().await, Some(lines));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn second_cluster() {
    let (shop, audit) = tokio::join!(jetstream(), jetstream());
    let output = run(example("second_cluster", &shop.url()).env("AUDIT_SERVER", audit.url()));
    assert_has(&output, &[&shop.url(), &audit.url(), "audit.orders.created 3", "both shut down"]);
    for server in [&shop, &audit] {
        assert!(server.varz().await["in_msgs"].as_u64() >= Some(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_pack() {
    let server = jetstream().await;
    let output = run(&mut example("message_pack", &server.url()));
    let promised = [
        "application/msgpack",
        "application/x-versioned-json",
        "Some(Reading { sensor: \"roof\", celsius: 21.5 })",
    ];
    assert_has(&output, &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_request() {
    let server = jetstream().await;
    let output = run(&mut example("raw_request", &server.url()));
    assert_has(&output, &["21 = 42", "12 = 144", "nobody answers this topic"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cached_repository() {
    let server = jetstream().await;
    let output = run(&mut example("cached_repository", &server.url()));
    let promised = [
        "64 readers at once: 1 load",
        "written through: User { name: \"Grace\", version: 2 }",
        "invalidated: User { name: \"Alan\", version: 3 }",
        "loads: 2",
    ];
    assert_has(&output, &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_time_password() {
    let server = jetstream().await;
    let output = run(&mut example("one_time_password", &server.url()));
    // Five tries are let in, all with the right code, and one of them wins.
    let promised = [
        "50 at once with the right code: 1 accepted",
        "wrong code: Rejected",
        "right code: Accepted",
        "again: Rejected",
        "an error, not a verdict: true",
    ];
    assert_has(&output, &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limiter_of_two_processes() {
    let server = jetstream().await;
    let start = || Program::start(&mut example("rate_limiter", &server.url()));
    let mut programs = [start(), start()];
    let mut allowed = 0;
    for program in &mut programs {
        let status = program.wait(LIMIT);
        assert!(status.success(), "{status}:\n{}", program.output());
        assert_has(program.output(), &["fail closed: false", "fail open: true"]);
        let count =
            program.output().split("allowed ").nth(1).and_then(|rest| rest.split(' ').next());
        allowed += count.unwrap().parse::<u32>().unwrap();
    }
    assert_eq!(allowed, 100, "the limit of two processes together");
}

#[tokio::test(flavor = "multi_thread")]
async fn counter_service_of_two_processes() {
    let server = jetstream().await;
    let start = || Program::start(&mut example("counter_service", &server.url()));
    let mut programs = [start(), start()];
    let mut allowed = 0;
    for program in &mut programs {
        let status = program.wait(LIMIT);
        assert!(status.success(), "{status}:\n{}", program.output());
        let line = program.output().lines().find(|line| line.contains("allowed"));
        let count = line.and_then(|line| line.split(' ').rev().nth(1));
        allowed += count.unwrap().parse::<u32>().unwrap();
    }
    assert_eq!(allowed, 10, "the downloads of two processes together");
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let views = connector.counters("page-views").get("/welcome").consistent().await;
    assert_eq!(views.unwrap(), Some(800));
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_election_with_a_leader_that_is_killed() {
    let server = jetstream().await;
    let start = |name: &str| Program::start(example("leader_election", &server.url()).arg(name));
    let mut leader = start("ada");
    leader.wait_for("ada did step 3", LIMIT);
    let mut others = [start("bob"), start("eve")];
    for candidate in &mut others {
        candidate.wait_for("is a candidate", LIMIT);
    }
    leader.signal("KILL");
    assert!(!leader.wait(LIMIT).success());
    let mut outputs = vec![leader.output().to_owned()];
    for candidate in &mut others {
        let status = candidate.wait(LIMIT);
        assert!(status.success(), "{status}:\n{}", candidate.output());
        assert_has(candidate.output(), &["all 40 steps are done"]);
        outputs.push(candidate.output().to_owned());
    }
    let words = |line: &str| line.split(' ').next_back().unwrap().parse::<u64>().unwrap();
    let all = |text: &str| -> Vec<u64> {
        let lines = outputs.iter().flat_map(|output| output.lines());
        lines.filter(|line| line.contains(text)).map(words).collect()
    };
    // No step twice; one may have been done and not told by the killed leader.
    let mut steps = all("did step");
    let told = steps.len();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps.len(), told, "a step was done twice");
    assert!((39..=40).contains(&told), "{steps:?}");
    let fences = all("leads with fence");
    assert!(fences.len() > 1 && fences[1..].iter().all(|it| *it > fences[0]), "{outputs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_queue_with_a_worker_that_is_killed() {
    let server = jetstream().await;
    let of = |name: &str| {
        let mut command = example("work_queue", &server.url());
        command.arg(name);
        command
    };
    assert_has(&run(&mut of("produce")), &["200 jobs are in the queue"]);
    let mut killed = Program::start(&mut of("ada"));
    killed.wait_for("ada did job 20", LIMIT);
    killed.signal("KILL");
    assert!(!killed.wait(LIMIT).success());
    let mut outputs = vec![killed.output().to_owned()];
    let mut others = [Program::start(&mut of("bob")), Program::start(&mut of("eve"))];
    for worker in &mut others {
        let status = worker.wait(LIMIT);
        assert!(status.success(), "{status}:\n{}", worker.output());
        assert_has(worker.output(), &["the queue is empty, 200 jobs are done"]);
        outputs.push(worker.output().to_owned());
    }
    // No job twice; up to four may have been done and not told by the killed worker.
    let lines = outputs.iter().flat_map(|output| output.lines());
    let mut jobs: Vec<&str> = lines.filter_map(|line| line.split(" did job ").nth(1)).collect();
    let told = jobs.len();
    jobs.sort_unstable();
    jobs.dedup();
    assert_eq!(jobs.len(), told, "a job was done twice: {outputs:?}");
    assert!((196..=200).contains(&told), "{told}: {outputs:?}");
    assert!(!outputs[0].contains("ada did job 200"), "the worker was killed too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_queue_alone() {
    let server = jetstream().await;
    let output = run(&mut example("work_queue", &server.url()));
    assert_has(&output, &["200 jobs are in the queue", "the queue is empty, 200 jobs are done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ordered_by_customer_twice() {
    let server = jetstream().await;
    for _ in 0..2 {
        let output = run(&mut example("ordered_by_customer", &server.url()));
        let promised =
            ["600 orders of 40 customers", "the orders of each customer were handled in order"];
        assert_has(&output, &promised);
        let at_once = output.split("up to ").nth(1).and_then(|rest| rest.split(' ').next());
        let at_once: u32 = at_once.unwrap().parse().unwrap();
        assert!((2..=8).contains(&at_once), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions() {
    let server = jetstream().await;
    let output = run(&mut example("sessions", &server.url()));
    let promised = [
        "in the cart: 20",
        "came back after a log-out: 0",
        "user 1: [\"id-laptop\", \"id-phone\", \"id-tv\"]",
        "logging out everywhere: 0, another user: 3",
    ];
    assert_has(&output, &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn testing() {
    let server = jetstream().await;
    assert_has(&run(&mut example("testing", &server.url())), &["order 1 of ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_streaming() {
    let server = Server::builder().start().await;
    let output = run(&mut example("rpc_streaming", &server.url()));
    let promised = [
        "1000 readings came",
        "their mean is 20",
        "of none: INVALID_ARGUMENT: no reading, no mean",
        "100 C are 212 F",
        "done",
    ];
    assert_has(&output, &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn rpc_orders() {
    let server = jetstream().await;
    let output = run(&mut example("rpc_orders", &server.url()));
    let promised = [
        "order 3 costs 50 (voucher used: true)",
        "NOT_FOUND: no order 99",
        "Ada has order 3 of 50",
        "service down: true; order.7.1 is 9.5 (stored: true)",
    ];
    assert_has(&output, &promised);
}

#[tokio::test(flavor = "multi_thread")]
async fn graceful_axum_answers_the_request_at_work_and_stores_its_visit() {
    let server = jetstream().await;
    let settings = Settings::builder().set("NATS.SERVER", server.url()).build().unwrap();
    let connector = Connector::connect(&settings).await.unwrap();
    let mut visits = connector.pubsub().messages("visits.*").await.unwrap();

    let mut program = Program::start(example("graceful_axum", &server.url()).env("PORT", "0"));
    let line = program.wait_for("listening on", LIMIT);
    let address = line.rsplit('/').next().unwrap().to_owned();
    let mut ready = request(&address, "/ready").await;
    assert!(answer(&mut ready).await.starts_with("HTTP/1.1 200"));

    let mut visit = request(&address, "/visit/ada").await;
    assert_eq!(visits.next().await.unwrap().topic(), "visits.begun");
    program.signal("TERM");
    assert!(answer(&mut visit).await.ends_with("visit 1 of ada\n"));
    let status = program.wait(LIMIT);
    assert!(status.success(), "{status}:\n{}", program.output());
    assert_eq!(visits.next().await.unwrap().topic(), "visits.done");
    assert_eq!(connector.kv().get("visits:ada").await.unwrap(), Some(1));
    assert!(TcpStream::connect(address).await.is_err());
}

async fn request(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(LIMIT, read).await.expect("an answer in time").unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters() {
    let server = jetstream().await;
    // Again on the same server: what an earlier run has left does not count.
    for _ in 0..2 {
        let output = run(&mut example("dead_letters", &server.url()));
        let promised = [
            "dead after 3 deliveries: orders b\"{\\\"id\\\":2",
            "no tax rate (country=fr)",
            "dead after 1 deliveries: orders b\"\\\"six, please\\\"\": not an order",
            "1 discarded",
            "2 replayed, 0 failed",
            "order 2 costs 120 with tax",
            "order 4 costs 120 with tax",
            "0 dead letters are left",
        ];
        assert_has(&output, &promised);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor() {
    let server = jetstream().await;
    assert_has(&run(&mut example("doctor", &server.url())), &["NATS.SERVER", "healthy"]);

    let mut sick = Program::start(&mut example("doctor", "nats://127.0.0.1:1"));
    assert_eq!(sick.wait(LIMIT).code(), Some(1));
    assert_has(sick.output(), &["FAULT  connection", "1 fault"]);

    let mut wrong = example("doctor", &server.url());
    let mut wrong = Program::start(wrong.arg("--NATS.MAX_RECONNECT=often"));
    assert_eq!(wrong.wait(LIMIT).code(), Some(1));
    assert_has(wrong.output(), &["FAULT  settings", "NATS.MAX_RECONNECT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects() {
    let server = jetstream().await;
    // Again on the same server: what an earlier run has left is there, and replaced.
    for _ in 0..2 {
        let output = run(&mut example("objects", &server.url()));
        let promised = [
            "all 1100000 bytes are on their way",
            "stored 1100000 bytes in 9 chunks",
            "in the middle: line 50000",
            "the copy is the same: true",
            "nobody stored that: None",
            "in the bucket: [\"latest.txt\", \"lines.txt\"]",
            "watched: latest.txt is deleted",
        ];
        assert_has(&output, &promised);
    }
}
