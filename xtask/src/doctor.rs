//! `cargo xtask doctor`: the doctor example.

use crate::Outcome;
use crate::cargo::{cargo, run as run_command};

pub(crate) fn run(arguments: &[String]) -> Outcome {
    run_command(cargo(&["run", "--quiet", "--example", "doctor", "--"]).args(arguments))
}
