//! nats-py, the client of another language, as a partner in tests.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use crate::fetch::{self, Missing};
use crate::version::all_required;

const RELEASE: &str = "2.16.0";
/// The SHA-256 of its wheel, which is one for all systems.
const HASH: &str = "aeb1ff123966c05833d26c7df7e1d54c1c6d32b612428b21677a2e921f1fecae";

/// How long one answer may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The folder that holds nats-py, for `PYTHONPATH`: `target/nats-py/<release>`, where pip puts it
/// once, its hash checked.
///
/// An answer, also a failure, holds for the life of the process.
///
/// # Errors
///
/// When it cannot be had. The message says what to install.
pub fn nats_py() -> Result<PathBuf, Missing> {
    static FOUND: LazyLock<Result<PathBuf, Missing>> = LazyLock::new(|| {
        install().map_err(|why| {
            Missing::new(format!(
                "cannot fetch nats-py {RELEASE} by pip: {why}. Install Python 3 with pip (Debian: \
                 apt-get install python3-pip)"
            ))
        })
    });
    FOUND.clone()
}

/// Whether nats-py can be run here, for a test to return early when it cannot.
///
/// When it cannot, a message on standard error says how to get it.
///
/// # Panics
///
/// When `REQUIRE_ALL=1` is set: then nothing may be skipped.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
pub fn require_nats_py() -> bool {
    match nats_py() {
        Ok(_) => true,
        Err(missing) => {
            assert!(!all_required(), "REQUIRE_ALL=1, but nats-py is missing: {missing}");
            eprintln!("skipped, nats-py is missing: {missing}");
            false
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let cache = fetch::target_dir().join("nats-py");
    let folder = cache.join(RELEASE);
    if folder.is_dir() {
        return Ok(folder);
    }
    fs::create_dir_all(&cache).map_err(|e| format!("create the cache: {e}"))?;
    // One fetch at a time for all processes; the lock goes when the file is closed.
    let lock = File::create(cache.join("lock")).map_err(|e| format!("create the lock: {e}"))?;
    lock.lock().map_err(|e| format!("lock the cache: {e}"))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let work = tempfile::tempdir_in(&cache).map_err(|e| format!("create the cache: {e}"))?;
    let list = work.path().join("requirements.txt");
    fs::write(&list, format!("nats-py=={RELEASE} --hash=sha256:{HASH}\n"))
        .map_err(|e| format!("write {}: {e}", list.display()))?;
    let content = work.path().join("content");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "--no-compile", "--requirement"])
        .arg(&list)
        .arg("--target")
        .arg(&content);
    fetch::run(&mut pip)?;
    // Last and atomic: what is in the cache is whole.
    fs::rename(&content, &folder).map_err(|e| format!("move into the cache: {e}"))?;
    Ok(folder)
}

/// A Python program that answers requests by nats-py: one JSON value a line, in and out. Killed on
/// drop.
#[derive(Debug)]
pub struct NatsPy {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
}

impl NatsPy {
    /// Starts `script`. Its errors are shown.
    ///
    /// # Panics
    ///
    /// When nats-py is not there, which [`require_nats_py`] tells before, or cannot be started.
    #[must_use]
    pub fn start(script: &Path, arguments: &[&str]) -> NatsPy {
        let folder = nats_py().unwrap_or_else(|missing| panic!("{missing}"));
        let mut command = Command::new("python3");
        command.arg(script).args(arguments).env("PYTHONPATH", folder);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let requests = child.stdin.take().expect("standard input is piped");
        let output = child.stdout.take().expect("standard output is piped");
        let (sender, answers) = channel();
        // A thread, so that waiting for an answer can have an end.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        NatsPy { child, requests, answers }
    }

    /// Sends a request and blocks until the answer is there.
    ///
    /// # Panics
    ///
    /// When there is none within a minute, or none that is JSON.
    pub fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.requests, "{request}").unwrap_or_else(|e| panic!("{request}: {e}"));
        let answer = self.answers.recv_timeout(DEADLINE);
        let answer = answer.unwrap_or_else(|error| panic!("no answer to {request}: {error}"));
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{answer}: {error}"))
    }
}

impl Drop for NatsPy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
