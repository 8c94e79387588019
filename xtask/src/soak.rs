//! `cargo xtask soak`: the integration tests at full size.

use crate::Outcome;
use crate::cargo::{cargo, run as run_command};
use crate::fetch;

pub(crate) fn run(filters: &[String]) -> Outcome {
    fetch::for_tests()?;
    let mut test = cargo(&["test", "--all-features", "--test", "*", "--"]);
    // Few at a time: long tests with rates and deadlines share the machine.
    test.args(filters).args(["--nocapture", "--test-threads=2"]);
    run_command(test.env("SOAK", "1"))
}
