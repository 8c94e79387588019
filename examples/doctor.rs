//! What is wrong with settings, connection or server, and what to do about it.
//!
//! ```text
//! cargo xtask doctor
//! cargo run --example doctor -- --NATS.SERVER=tls://nats.example.com
//! ```

#![expect(clippy::print_stdout, reason = "the output is what this example is for")]

use std::process::ExitCode;

use nats_connector::{Settings, doctor};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(error) => {
            println!("FAULT  settings  {error}");
            return ExitCode::FAILURE;
        }
    };
    let diagnosis = doctor::examine(&settings).await;
    println!("{diagnosis}");
    if diagnosis.is_healthy() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
