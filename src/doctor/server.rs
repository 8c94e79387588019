//! The questions to a connected server.

use async_nats::message::OutboundMessage;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use super::Finding;
use crate::connector::status::Denied;
use crate::connector::{Connector, Feature, Link};
use crate::deadline::after;
use crate::error::{ErrorKind, Result};
use crate::settings::{Auth, Settings};

/// Asks everything; every question has the time limit of a request.
pub(super) async fn examine(connector: &Connector) -> Vec<Finding> {
    let Ok(link) = connector.link() else { return Vec::new() };
    let permissions = permissions(link).await;
    let may_listen = !permissions.is_fault();
    let mut findings = vec![server(link), tls(link, connector.settings()), permissions];
    // Without a permission to listen no answer can arrive.
    if may_listen {
        findings.push(round_trip(link).await);
        findings.push(jetstream(link).await);
        findings.extend(capabilities(connector).await);
    }
    findings
}

fn deadline(link: &Link) -> Instant {
    after(link.settings().request_timeout())
}

/// The client starts TLS when settings, address or server ask for it.
fn tls(link: &Link, settings: &Settings) -> Finding {
    let address = settings.servers().first().map_or("", String::as_str);
    let secure_address = address.starts_with("tls://") || address.starts_with("wss://");
    let tls = settings.tls();
    let in_use =
        tls.required || tls.first || secure_address || link.client().server_info().tls_required;
    if in_use {
        let trust = match &tls.ca {
            Some(ca) => format!("authorities of {}", ca.display()),
            None => "authorities of the system".to_owned(),
        };
        let client = if tls.cert.is_some() { ", with a client certificate" } else { "" };
        return Finding::fine("tls", format!("in use, {trust}{client}"));
    }
    let bare = matches!(settings.auth(), Auth::Token(_) | Auth::UserPassword { .. });
    if bare && !is_loopback(address) {
        return Finding::note("tls", "not in use: the password or token travels in clear text");
    }
    Finding::fine("tls", "not in use")
}

fn is_loopback(address: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].into_iter().any(|local| host.starts_with(local))
}

/// Publishes to the inbox; the round trip after it shows that answers arrive there.
async fn permissions(link: &Link) -> Finding {
    const ABOUT: &str = "permissions";
    let inbox = link.requests().nobody();
    let probe = async {
        let message = OutboundMessage {
            subject: inbox.clone(),
            reply: None,
            payload: Bytes::new(),
            headers: None,
        };
        link.publish(message, deadline(link)).await?;
        link.barrier(deadline(link)).await
    };
    let outcome: Result<()> = probe.await;
    let denied = |d: &Denied| d.publish && d.subject == inbox.as_str();
    match outcome {
        Err(error) => Finding::of_error(ABOUT, &error),
        Ok(()) if link.status().take_denied(denied).is_some() => Finding::note(
            ABOUT,
            "may not publish to inboxes: can ask, and answer only with a permission for responses",
        ),
        Ok(()) => Finding::fine(ABOUT, "may listen and publish to its inbox"),
    }
}

async fn round_trip(link: &Link) -> Finding {
    let begun = Instant::now();
    match link.barrier(deadline(link)).await {
        Ok(()) => {
            let millis = begun.elapsed().as_secs_f64() * 1e3;
            Finding::fine("round trip", format!("{millis:.2} ms"))
        }
        Err(error) => Finding::of_error("round trip", &error),
    }
}

/// The account's part of `$JS.API.INFO`, read leniently.
#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    memory: u64,
    #[serde(default)]
    storage: u64,
    #[serde(default)]
    streams: u64,
    #[serde(default)]
    consumers: u64,
    domain: Option<String>,
    #[serde(default)]
    limits: Limits,
    error: Option<Refusal>,
}

/// Below zero: no limit.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Limits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

async fn jetstream(link: &Link) -> Finding {
    const ABOUT: &str = "jetstream";
    let subject = link.js_subject("INFO");
    let answer = match link.request(subject.clone(), None, Bytes::new(), deadline(link)).await {
        Ok(answer) => answer,
        Err(error) if error.is_no_responders() => {
            return Finding::fault(
                ABOUT,
                "not available, so key-value and streams do not work",
                "start nats-server with --jetstream, or check NATS.JETSTREAM_DOMAIN",
            );
        }
        Err(error) if error.kind() == ErrorKind::Unauthorized => {
            return Finding::fault(
                ABOUT,
                "not permitted, so key-value and streams do not work",
                format!("permit this user to publish to {subject} and what else it needs"),
            );
        }
        Err(error) => return Finding::of_error(ABOUT, &error),
    };
    match serde_json::from_slice::<Account>(&answer.payload) {
        Ok(Account { error: Some(refusal), .. }) => Finding::fault(
            ABOUT,
            format!("refused: {}", refusal.description),
            "enable JetStream for this account",
        ),
        Ok(account) => account.finding(),
        Err(_) => Finding::fault(
            ABOUT,
            "the answer of its API cannot be read",
            "check that NATS.JETSTREAM_PREFIX leads to a JetStream API",
        ),
    }
}

impl Account {
    fn finding(&self) -> Finding {
        let used = [
            ("streams", self.streams, self.limits.max_streams),
            ("consumers", self.consumers, self.limits.max_consumers),
            ("bytes in memory", self.memory, self.limits.max_memory),
            ("bytes on disk", self.storage, self.limits.max_storage),
        ];
        let line = |(what, used, limit): (&str, u64, i64)| match u64::try_from(limit) {
            Ok(limit) => format!("{used} of {limit} {what}"),
            Err(_) => format!("{used} {what}"),
        };
        // A limit of zero is how an account has none of a kind.
        let exhausted =
            |(_, used, limit): &(&str, u64, i64)| *limit > 0 && *used >= limit.unsigned_abs();
        if let Some(full) = used.into_iter().find(exhausted) {
            return Finding::fault(
                "jetstream",
                format!("the account's limit is reached: {}", line(full)),
                "raise the limit of the account, or delete what is not needed",
            );
        }
        let domain = self.domain.as_ref().map_or(String::new(), |it| format!(", domain {it}"));
        Finding::fine("jetstream", format!("{}{domain}", used.map(line).join(", ")))
    }
}

fn server(link: &Link) -> Finding {
    let info = link.client().server_info();
    let text = format!(
        "nats-server {} \"{}\", messages up to {} bytes",
        info.version, info.server_name, info.max_payload
    );
    Finding::fine("server", text)
}

async fn capabilities(connector: &Connector) -> Vec<Finding> {
    const ABOUT: &str = "capabilities";
    let can = match connector.capabilities().await {
        Ok(can) => can,
        Err(error) => return vec![Finding::of_error(ABOUT, &error)],
    };
    let has = Feature::ALL.into_iter().filter(|feature| can.supports(*feature));
    let has = has.map(|feature| format!(", {}", feature.name())).collect::<String>();
    let mut findings = vec![Finding::fine(ABOUT, format!("API level {}{has}", can.api_level()))];
    let lacks = Feature::ALL.into_iter().filter_map(|feature| can.require(feature).err());
    findings.extend(lacks.map(|error| Finding::note(ABOUT, error.to_string())));
    findings
}
