//! `cargo xtask doctor`: the doctor example.

use std::process::{Command, ExitCode};

use crate::Outcome;
use crate::cargo::example;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let status = Command::new(example("doctor")?).args(arguments).status();
    let status = status.map_err(|error| format!("start the example: {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
