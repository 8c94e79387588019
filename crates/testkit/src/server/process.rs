//! A child process that does not outlive the test.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait::poll_until;

/// Becomes the server, after it has left a watchdog behind that reads the test's end of a pipe.
/// A line means that the server was reaped. End of file without one means that the test process
/// is gone, however it ended, and the server (`$$`, the shell's pid, is the server's) must go too.
const LEASH: &str = r#"
exec 3<&0
(read -r _ <&3 || kill -9 $$) >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-
"#;

/// A running server process, killed on drop and when the test process dies.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    leash: ChildStdin,
}

impl Process {
    /// Starts `binary` with `args`; both outputs are appended to `log`.
    pub(crate) fn spawn(binary: &Path, args: &[&str], log: &Path) -> io::Result<Process> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = Command::new("sh")
            .args(["-c", LEASH, "sh"])
            .arg(binary)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let leash = child.stdin.take().expect("standard input is piped");
        Ok(Process { child, leash })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, if it did.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be waited for")
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// SIGTERM, then waits for the exit.
    ///
    /// # Panics
    ///
    /// When the process is still there after `deadline`; it is killed then.
    pub(crate) fn stop(mut self, deadline: Duration) {
        // One that ended by itself is reaped here and must not be signalled: its id can be another's.
        if self.exited().is_none() {
            self.signal("TERM");
        }
        let ended = poll_until(deadline, || self.exited().is_some());
        assert!(ended, "process {} did not stop within {deadline:?} after SIGTERM", self.pid());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.leash.write_all(b"reaped\n");
    }
}

/// Sends a signal by name to a process.
///
/// # Panics
///
/// When there is no such process, or no such signal.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()])
        .status()
        .expect("sh runs");
    assert!(status.success(), "cannot send SIG{name} to process {pid}");
}
