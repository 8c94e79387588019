//! `NATS.SERVER`: the server list, and what it says about authentication.

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

use super::{Auth, Secret};

/// The value of `NATS.SERVER` that stands for the driver without network.
const MEMORY: &str = "memory:";

/// What an element of the list must look like.
const EXPECTED: &str = "expected for example nats://127.0.0.1:4222, tls://host:4222, \
                        wss://host/path or host:4222";

/// A parsed server list. The addresses are free of userinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Servers {
    pub(super) memory: bool,
    pub(super) addresses: Vec<String>,
    pub(super) auth: Auth,
}

impl Servers {
    /// A list without servers.
    pub(super) fn none() -> Self {
        Servers { memory: false, addresses: Vec::new(), auth: Auth::None }
    }
}

/// Parses a comma list. The error follows the name of the setting and its source; it never has a
/// part of the value when there is userinfo in it.
pub(super) fn parse(list: &str) -> Result<Servers, String> {
    if list.trim() == MEMORY {
        return Ok(Servers { memory: true, ..Servers::none() });
    }
    let elements: Vec<&str> = list.split(',').map(str::trim).collect();
    // A password may hold any of `,:/?#`, so nothing of a list with userinfo is safe to show.
    let secret = list.contains('@');
    let mut servers = Servers::none();
    let mut websocket = Vec::new();
    for (i, element) in elements.iter().enumerate() {
        let server = parse_one(element).map_err(|why| {
            let position = format!("server {} of {}", i + 1, elements.len());
            if secret {
                format!("{position} (not shown, since the list has a user or password) {why}")
            } else {
                format!("{position}, {element:?}, {why}")
            }
        })?;
        if server.auth != Auth::None {
            if servers.auth != Auth::None && servers.auth != server.auth {
                return Err(format!(
                    "server {} of {} has another user, password or token than one before it; \
                     all servers of one cluster take the same",
                    i + 1,
                    elements.len()
                ));
            }
            servers.auth = server.auth;
        }
        websocket.push(server.websocket);
        servers.addresses.push(server.address);
    }
    if websocket.contains(&true) && websocket.contains(&false) {
        return Err("WebSocket servers (ws, wss) cannot be mixed with others (nats, tls)".into());
    }
    Ok(servers)
}

struct Server {
    address: String,
    websocket: bool,
    auth: Auth,
}

fn parse_one(element: &str) -> Result<Server, String> {
    let invalid = |why: &str| format!("{why}; {EXPECTED}");
    if element.is_empty() {
        return Err(invalid("is empty"));
    }
    if element == MEMORY {
        return Err("stands alone: the driver without network has no other servers".into());
    }
    if element.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid("has white space in it"));
    }
    // The parser's own message is not used: it may quote the input.
    let address: ServerAddr =
        element.parse().map_err(|_| invalid("is not the address of a server (write special characters of a password as %XX, or use the settings for user, password and token)"))?;
    if address.host().is_empty() {
        return Err(invalid("has no host"));
    }
    if address.port() == 0 {
        return Err(invalid("has port 0"));
    }
    let websocket = address.is_websocket();
    let auth = userinfo(element, &address)?;
    let port = address.port();
    let mut url = address.into_inner();
    let path = url.path();
    if (!websocket && !matches!(path, "" | "/"))
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(invalid("has text after the port"));
    }
    let bare = if websocket {
        url.set_username("").and(url.set_password(None)).map_err(|()| invalid("has no host"))?;
        url.to_string()
    } else {
        let host = url.host_str().unwrap_or_default();
        format!("{}://{host}:{port}", url.scheme())
    };
    Ok(Server { address: bare, websocket, auth })
}

/// `user:password@` or `token@`, percent-decoded.
fn userinfo(element: &str, address: &ServerAddr) -> Result<Auth, String> {
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(String::from)
            .map_err(|_| "has a user or password that is not UTF-8 once decoded".to_owned())
    };
    Ok(match (address.username(), address.password()) {
        (None, None) => Auth::None,
        // The parser drops an empty password; a user without one is not a token.
        (Some(_), None) if element.contains(":@") => {
            return Err("has a user but no password".to_owned());
        }
        (Some(token), None) => Auth::Token(Secret::new(decoded(token)?)),
        (Some(username), Some(password)) => Auth::UserPassword {
            username: decoded(username)?,
            password: Secret::new(decoded(password)?),
        },
        (None, Some(_)) => return Err("has a password but no user".to_owned()),
    })
}
