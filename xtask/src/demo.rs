//! `cargo xtask demo`: the orders example against a real server, ended by SIGTERM on its way.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use testkit::{Line, Program, Server};

use crate::cargo::example;
use crate::server::recent;
use crate::{Outcome, no_arguments};

const EXAMPLE: &str = "orders";
const SERVER_VARIABLE: &str = "NATS_SERVER";
const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// The example's line after which it is asked to stop.
const MARKER: &str = "halfway";
/// How long the example may take to get there.
const WORK: Duration = Duration::from_secs(120);
/// How long it may take to stop: its own drain timeout and some more.
const STOP: Duration = Duration::from_secs(60);
/// How long a server may take to greet.
const GREETING: Duration = Duration::from_secs(2);

pub(crate) fn run(arguments: &[String]) -> Outcome {
    no_arguments(arguments)?;
    let program = example(EXAMPLE)?;
    let (url, _server) = server()?;
    let mut example = Program::start(Command::new(program).env(SERVER_VARIABLE, url));
    watch(&mut example)
}

/// The server named by the user if it answers with JetStream, else one for this demo.
fn server() -> Result<(String, Option<Server>), String> {
    let named = std::env::var(SERVER_VARIABLE).unwrap_or_else(|_| DEFAULT_SERVER.to_owned());
    let address = address_of(&named);
    if has_jetstream(&address) {
        println!("demo: using the server at {address}");
        return Ok((named, None));
    }
    let server = recent()?.start_blocking();
    println!("demo: no JetStream server answers at {address}, started one at {}", server.url());
    Ok((server.url(), Some(server)))
}

/// `host:port` of the first server in a setting, without a password that may be in it.
fn address_of(setting: &str) -> String {
    let first = setting.split(',').next().unwrap_or_default().trim();
    let rest = first.split_once("://").map_or(first, |(_, rest)| rest);
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host).trim_end_matches('/');
    if host.contains(':') { host.to_owned() } else { format!("{host}:4222") }
}

/// Whether a nats-server greets at this address and says that it has JetStream.
fn has_jetstream(address: &str) -> bool {
    let greeting = || -> std::io::Result<String> {
        let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let stream = TcpStream::connect_timeout(&address, GREETING)?;
        stream.set_read_timeout(Some(GREETING))?;
        let mut line = String::new();
        // What is no nats-server may send anything, of any length.
        BufReader::new(stream.take(64 * 1024)).read_line(&mut line)?;
        Ok(line)
    };
    let info = greeting().unwrap_or_default();
    let info = info.strip_prefix("INFO ").and_then(|json| serde_json::from_str(json).ok());
    info.is_some_and(|info: serde_json::Value| info["jetstream"] == true)
}

/// Shows what the example prints, stops it after the marker and returns its exit code.
fn watch(example: &mut Program) -> Outcome {
    let mut deadline = Instant::now() + WORK;
    let mut asked_to_stop = false;
    loop {
        match example.line(deadline.saturating_duration_since(Instant::now())) {
            Line::Text(line) => {
                println!("{line}");
                if !asked_to_stop && line.contains(MARKER) {
                    println!("demo: sending SIGTERM");
                    example.signal("TERM");
                    asked_to_stop = true;
                    deadline = Instant::now() + STOP;
                }
            }
            Line::Nothing if asked_to_stop => {
                return Err(format!("the example did not stop within {STOP:?} after SIGTERM"));
            }
            Line::Nothing => return Err(format!("the example was not {MARKER} within {WORK:?}")),
            Line::End => break,
        }
    }
    let status = example.wait(STOP);
    if !asked_to_stop {
        return Err(format!("the example ended before it was {MARKER}: {status}"));
    }
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code) => {
            println!("demo: the example ended with exit code {code}");
            Ok(ExitCode::from(code))
        }
        None => Err(format!("the example was ended: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::address_of;

    #[test]
    fn the_address_is_that_of_the_first_server_and_holds_no_password() {
        for (setting, address) in [
            ("nats://127.0.0.1:4222", "127.0.0.1:4222"),
            ("localhost", "localhost:4222"),
            ("tls://user:p@ss@example.test:4443/, nats://other:1", "example.test:4443"),
        ] {
            assert_eq!(address_of(setting), address);
        }
    }
}
