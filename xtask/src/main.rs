//! The project's commands: `cargo xtask <command>`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "commands talk to a terminal")]

mod bench;
mod cargo;
mod demo;
mod doctor;
mod fetch;
mod server;
mod soak;
mod test;

use std::process::ExitCode;

/// What went wrong, for a person, or the exit code to end with.
type Outcome = Result<ExitCode, String>;

struct Command {
    name: &'static str,
    meaning: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: [Command; 7] = [
    Command {
        name: "demo",
        meaning: "show publish, subscribe, KV and a graceful shutdown, on a real server",
        run: demo::run,
    },
    Command {
        name: "test",
        meaning: "check everything: format, lints, tests, documentation, package",
        run: test::run,
    },
    Command {
        name: "soak",
        meaning: "run the integration tests at full size; an argument filters them by name",
        run: soak::run,
    },
    Command {
        name: "bench",
        meaning: "compare each operation with raw async-nats; arguments go to the benchmark",
        run: bench::run,
    },
    Command {
        name: "server",
        meaning: "run a JetStream server to play with, until Ctrl-C",
        run: server::run,
    },
    Command {
        name: "doctor",
        meaning: "say what is wrong with settings, connection or server; takes settings as arguments",
        run: doctor::run,
    },
    Command { name: "fetch", meaning: "fetch the servers that the tests run on", run: fetch::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        println!("{}", help());
        return ExitCode::SUCCESS;
    };
    let asks = |argument: &str| matches!(argument, "--help" | "-h");
    if name == "help" || asks(name) || rest.first().is_some_and(|first| asks(first)) {
        println!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("cargo xtask: there is no command \"{name}\"\n\n{}", help());
        return ExitCode::from(2);
    };
    (command.run)(rest).unwrap_or_else(|error| {
        eprintln!("\ncargo xtask {name}: {error}");
        ExitCode::FAILURE
    })
}

fn help() -> String {
    let lines = COMMANDS.iter().map(|it| format!("  {:8} {}\n", it.name, it.meaning));
    format!("usage: cargo xtask <command>\n\n{}", lines.collect::<String>())
}

/// For commands that take no arguments.
fn no_arguments(arguments: &[String]) -> Result<(), String> {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(format!("takes no arguments, not \"{first}\"")),
    }
}
