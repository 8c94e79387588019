//! What is wrong with settings, connection or server, and what to do about it.
//!
//! ```no_run
//! # async fn example() -> nats_connector::Result<()> {
//! use nats_connector::{Settings, doctor};
//!
//! let diagnosis = doctor::examine(&Settings::load()?).await;
//! println!("{diagnosis}");
//! std::process::exit(diagnosis.exit_code());
//! # }
//! ```

mod server;

use std::fmt;
use std::time::Duration;

use futures::future::join_all;

use crate::connector::Connector;
use crate::deadline::{after, within};
use crate::error::Error;
use crate::settings::{Settings, Table};

/// How long the examined connections may take to close.
const CLOSING: Duration = Duration::from_secs(2);

/// What an examination found; `Display` is a report for people, without secrets.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    settings: Table,
    findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at: `settings`, `connection`, `tls`, `server`, `round trip`, `permissions`,
    /// `jetstream` or `capabilities`.
    pub about: &'static str,
    /// What was found, in one line.
    pub text: String,
    /// Whether that is well.
    pub verdict: Verdict,
}

/// Whether a finding is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is well.
    Fine,
    /// It may be meant so.
    Note,
    /// Something does not work.
    Fault {
        /// What to do about it.
        advice: String,
    },
}

impl Diagnosis {
    /// Everything that was looked at, in order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What does not work.
    pub fn faults(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_fault())
    }

    /// There is no fault.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.faults().next().is_none()
    }

    /// 0 when it [is healthy](Self::is_healthy), else 1.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        i32::from(!self.is_healthy())
    }
}

/// Examines what the settings describe: the settings themselves, each server, TLS, versions, the
/// round trip, permissions, JetStream and its limits. Nothing is left behind on the server.
///
/// Every step has a deadline: `NATS.CONNECT_TIMEOUT` for the connections, all servers at once, and
/// `NATS.REQUEST_TIMEOUT` for each question.
pub async fn examine(settings: &Settings) -> Diagnosis {
    let mut findings: Vec<_> =
        settings.warnings().iter().map(|warning| Finding::note("settings", warning)).collect();
    if settings.is_memory() {
        findings.push(Finding::fine("connection", "in process, there is nothing to connect to"));
    } else {
        let connector = connect(settings, &mut findings).await;
        if let Some(connector) = connector {
            findings.extend(server::examine(&connector).await);
            close(&connector).await;
        }
    }
    Diagnosis { settings: settings.table().clone(), findings }
}

/// Tries every server by itself; the first connection is kept for the questions.
async fn connect(settings: &Settings, findings: &mut Vec<Finding>) -> Option<Connector> {
    let attempts = settings.servers().iter().map(|server| async move {
        let probe = settings.for_probe(server);
        (server, Connector::connect(&probe).await)
    });
    let mut kept = None;
    for (server, outcome) in join_all(attempts).await {
        match outcome {
            Ok(connector) => {
                findings.push(Finding::fine("connection", format!("{server}: connected")));
                if kept.is_none() {
                    kept = Some(connector);
                } else {
                    close(&connector).await;
                }
            }
            Err(error) => findings.push(Finding::of_error("connection", &error)),
        }
    }
    kept
}

async fn close(connector: &Connector) {
    // A connection that cannot be closed in time ends when it is dropped.
    let _ = within(after(CLOSING), connector.drain()).await;
}

impl Finding {
    /// Something does not work.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self.verdict, Verdict::Fault { .. })
    }

    fn fine(about: &'static str, text: impl Into<String>) -> Self {
        Finding { about, text: text.into(), verdict: Verdict::Fine }
    }

    fn note(about: &'static str, text: impl Into<String>) -> Self {
        Finding { about, text: text.into(), verdict: Verdict::Note }
    }

    fn fault(about: &'static str, text: impl Into<String>, advice: impl Into<String>) -> Self {
        Finding { about, text: text.into(), verdict: Verdict::Fault { advice: advice.into() } }
    }

    /// The errors of this crate say what is wrong and, after the last semicolon, what to do.
    fn of_error(about: &'static str, error: &Error) -> Self {
        let text = error.to_string();
        let text = text.strip_prefix("connect: ").unwrap_or(&text);
        match text.rsplit_once("; ") {
            Some((what, advice)) => Finding::fault(about, what, advice),
            None => Finding::fault(about, text, "see the server's log for the reason"),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "settings")?;
        for line in self.settings.to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "\nexamination")?;
        for finding in &self.findings {
            writeln!(f, "  {finding}")?;
        }
        match self.faults().count() {
            0 => write!(f, "\nhealthy"),
            1 => write!(f, "\n1 fault"),
            n => write!(f, "\n{n} faults"),
        }
    }
}

impl fmt::Display for Finding {
    /// One line, and a second one with the advice for a fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { about, text, verdict } = self;
        match verdict {
            Verdict::Fine => write!(f, "ok     {about:13} {text}"),
            Verdict::Note => write!(f, "note   {about:13} {text}"),
            Verdict::Fault { advice } => {
                write!(f, "FAULT  {about:13} {text}\n  {:20} -> {advice}", "")
            }
        }
    }
}
