//! `cargo xtask bench`: each operation beside raw async-nats.

use testkit::Version;
use testkit::fetch::{BINARY_VARIABLE, binary};

use crate::Outcome;
use crate::cargo::{cargo, run as run_command};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let server = binary(Version::V2_15).map_err(|missing| missing.to_string())?;
    let mut bench = cargo(&["bench", "--bench", "ratios", "--"]);
    run_command(bench.args(arguments).env(BINARY_VARIABLE, server))
}
