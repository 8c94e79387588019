//! A program under test, watched by what it prints.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::server::process::signal;
use crate::wait::poll_until;

/// A running program; its standard output is read line by line. Killed on drop.
///
/// Its methods block, up to the time that each is given.
#[derive(Debug)]
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    output: String,
}

/// The cargo that runs this program, to run it again.
///
/// It does not get the variables that describe this program: ring's build script, and with it
/// everything that uses TLS, builds anew whenever they change.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// What came next from a [`Program`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its end.
    Text(String),
    /// No more lines: the output is closed.
    End,
    /// Nothing within the time.
    Nothing,
}

impl Program {
    /// Starts the program. Its standard input is empty, and its errors are shown.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Program {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = channel();
        // A thread, so that waiting for a line can have an end.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Program { child, lines, output: String::new() }
    }

    /// The next line.
    pub fn line(&mut self, within: Duration) -> Line {
        match self.lines.recv_timeout(within) {
            Ok(line) => {
                self.output.push_str(&line);
                self.output.push('\n');
                Line::Text(line)
            }
            Err(RecvTimeoutError::Disconnected) => Line::End,
            Err(RecvTimeoutError::Timeout) => Line::Nothing,
        }
    }

    /// Reads on until a line has `text` in it, and gives that line.
    ///
    /// # Panics
    ///
    /// When there is none within the time; the message has the output so far.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> String {
        let end = Instant::now() + within;
        loop {
            match self.line(end.saturating_duration_since(Instant::now())) {
                Line::Text(line) if line.contains(text) => return line,
                Line::Text(_) => {}
                missing => panic!("no line with {text:?}: {missing:?} after\n{}", self.output),
            }
        }
    }

    /// Waits for the end of the program; [`output`](Self::output) has all of it then.
    ///
    /// # Panics
    ///
    /// When it does not end within the time.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let end = Instant::now() + within;
        while let Line::Text(_) = self.line(end.saturating_duration_since(Instant::now())) {}
        let mut status = None;
        poll_until(end.saturating_duration_since(Instant::now()), || {
            status = self.child.try_wait().expect("the child can be waited for");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("still running after {within:?}:\n{}", self.output))
    }

    /// Sends a signal by name, such as `TERM`.
    ///
    /// # Panics
    ///
    /// When the program is gone.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// What it printed, as far as it was read.
    #[must_use]
    pub fn output(&self) -> &str {
        &self.output
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a program that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
