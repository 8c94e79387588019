//! The config file of a server.

use std::fmt::Write as _;
use std::path::Path;

use crate::server::Ports;
use crate::server::builder::ServerBuilder;

/// What a user may do. Without any list, everything; an allow list denies all else.
#[derive(Clone, Debug, Default)]
pub struct Permissions {
    publish: Lists,
    subscribe: Lists,
    responses: bool,
}

#[derive(Clone, Debug, Default)]
struct Lists {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Permissions {
    /// May publish to these subjects only.
    #[must_use]
    pub fn publish(mut self, subjects: &[&str]) -> Permissions {
        self.publish.allow.extend(subjects.iter().map(|it| quote(it)));
        self
    }

    /// May not publish to these subjects.
    #[must_use]
    pub fn deny_publish(mut self, subjects: &[&str]) -> Permissions {
        self.publish.deny.extend(subjects.iter().map(|it| quote(it)));
        self
    }

    /// May subscribe to these subjects only.
    #[must_use]
    pub fn subscribe(mut self, subjects: &[&str]) -> Permissions {
        self.subscribe.allow.extend(subjects.iter().map(|it| quote(it)));
        self
    }

    /// May not subscribe to these subjects.
    #[must_use]
    pub fn deny_subscribe(mut self, subjects: &[&str]) -> Permissions {
        self.subscribe.deny.extend(subjects.iter().map(|it| quote(it)));
        self
    }

    /// May answer the requests it receives.
    #[must_use]
    pub fn responses(mut self) -> Permissions {
        self.responses = true;
        self
    }

    /// `, permissions: { .. }`, empty when there is nothing to say.
    pub(crate) fn render(&self) -> String {
        let mut rules = Vec::new();
        for (name, lists) in [("publish", &self.publish), ("subscribe", &self.subscribe)] {
            let lists = lists.render();
            if !lists.is_empty() {
                rules.push(format!("{name}: {{ {lists} }}"));
            }
        }
        if self.responses {
            rules.push("allow_responses: true".to_owned());
        }
        if rules.is_empty() {
            return String::new();
        }
        format!(", permissions: {{ {} }}", rules.join(", "))
    }
}

impl Lists {
    fn render(&self) -> String {
        let rules = [("allow", &self.allow), ("deny", &self.deny)]
            .into_iter()
            .filter(|(_, subjects)| !subjects.is_empty())
            .map(|(rule, subjects)| format!("{rule}: [{}]", subjects.join(", ")));
        rules.collect::<Vec<_>>().join(", ")
    }
}

/// The whole file. A port that is not known yet is left to the server.
pub(crate) fn render(spec: &ServerBuilder, folder: &Path, ports: Ports) -> String {
    let mut text = format!(
        "server_name: {}\nlisten: {}\nhttp: {}\n{}",
        quote(&spec.name),
        listen(ports.client),
        listen(ports.monitor),
        spec.settings,
    );
    let mut section = |line: String| writeln!(text, "{line}").expect("a string takes all text");
    if let Some(jetstream) = &spec.jetstream {
        let domain = jetstream.domain.as_ref();
        let domain = domain.map_or(String::new(), |name| format!(", domain: {}", quote(name)));
        section(format!(
            "jetstream {{ store_dir: {}{domain} }}",
            quote_path(&folder.join("store"))
        ));
    }
    if let Some(tls) = &spec.tls {
        let (certificate, key) = (tls.certificate.certificate(), tls.certificate.key());
        let mut options =
            format!("cert_file: {}, key_file: {}", quote_path(certificate), quote_path(key));
        if let Some(authority) = &tls.client_authority {
            options += &format!(", ca_file: {}, verify: true", quote_path(authority));
        }
        if tls.first {
            options += ", handshake_first: true";
        }
        section(format!("tls {{ {options} }}"));
    }
    if !spec.users.is_empty() {
        section(format!("authorization {{ users: [ {{ {} }} ] }}", spec.users.join(" }, { ")));
    }
    if spec.websocket {
        section(format!("websocket {{ listen: {}, no_tls: true }}", listen(ports.websocket)));
    }
    if spec.leaf_nodes {
        section(format!("leafnodes {{ listen: {} }}", listen(ports.leaf)));
    }
    if let Some(hub) = spec.leaf_of {
        section(format!("leafnodes {{ remotes: [ {{ url: \"nats://{}\" }} ] }}", hub.address));
    }
    text
}

fn listen(port: Option<u16>) -> String {
    let port = port.map_or("-1".to_owned(), |port| port.to_string());
    format!("\"127.0.0.1:{port}\"")
}

fn quote_path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// A quoted string of the config language.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
