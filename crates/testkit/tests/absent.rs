//! What cannot be had is a message, or a failure if nothing may be skipped. Runs itself with an
//! environment that has neither a cache nor Python, so it has its own `main`.

use std::path::Path;
use std::process::{Command, Output};

use testkit::Version;

const ASK_FOR_A_SERVER: &str = "--ask-for-a-server";
const ASK_FOR_NATS_PY: &str = "--ask-for-nats-py";

#[expect(clippy::print_stdout, reason = "a test tells its result")]
fn main() {
    if std::env::args().any(|argument| argument == ASK_FOR_A_SERVER) {
        // Debian's may be installed or not: neither is a failure.
        let _ = testkit::require(Version::Debian29);
        assert!(!testkit::require(Version::V2_10));
        assert!(!testkit::require_redis());
        return;
    }
    if std::env::args().any(|argument| argument == ASK_FOR_NATS_PY) {
        assert!(!testkit::require_nats_py());
        return;
    }
    what_is_absent_is_skipped_with_a_message();
    println!("test what_is_absent_is_skipped_with_a_message ... ok");
    what_is_required_must_not_be_absent();
    println!("test what_is_required_must_not_be_absent ... ok");
}

fn what_is_absent_is_skipped_with_a_message() {
    let python = ["python3 is not installed", "apt-get install python3-pip"];
    for (asked, texts) in [
        (ASK_FOR_A_SERVER, ["skipped, nats-server 2.10.26 is missing", "NATS_SERVER_BIN"]),
        (ASK_FOR_NATS_PY, ["skipped, nats-py is missing", "nats-py 2.16.0"]),
    ] {
        let output = ask(asked, "0");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        for text in texts.into_iter().chain(python) {
            assert!(said.contains(text), "\"{text}\" is not in: {said}");
        }
    }
}

fn what_is_required_must_not_be_absent() {
    for (asked, missing) in
        [(ASK_FOR_A_SERVER, "nats-server 2.10.26"), (ASK_FOR_NATS_PY, "nats-py")]
    {
        let output = ask(asked, "1");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains(&format!("REQUIRE_ALL=1, but {missing} is missing")), "{said}");
    }
}

fn ask(asked: &str, require_all: &str) -> Output {
    let empty = tempfile::tempdir().expect("a folder");
    let folder: &Path = empty.path();
    Command::new(std::env::current_exe().expect("a running program"))
        .arg(asked)
        .env("PATH", folder)
        .env("CARGO_TARGET_DIR", folder)
        .env("REQUIRE_ALL", require_all)
        .output()
        .expect("it starts")
}
