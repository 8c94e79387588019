//! Checks the certificate files before the first connect, so that a wrong one is named with its
//! setting instead of surfacing as a failed handshake.

use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::auth::bad;
use super::key_name;
use crate::error::{Error, ErrorKind, Result};
use crate::settings::Settings;

/// Reads every file that the TLS settings name and checks that it holds what it should; refuses
/// servers that can never meet the settings.
pub(crate) fn check(settings: &Settings) -> Result<()> {
    let tls = settings.tls();
    // The client takes the requirement for its own protocol only.
    if tls.required
        && let Some(plain) = settings.servers().iter().find(|server| server.starts_with("ws:"))
    {
        let (server, required) = (key_name(settings, "SERVER"), key_name(settings, "TLS_REQUIRED"));
        return Err(Error::new(
            ErrorKind::InvalidSettings,
            format!("{server}: {plain} is a WebSocket without TLS, but {required} is set; use wss"),
        ));
    }
    for (name, path) in [("TLS_CA", &tls.ca), ("TLS_CERT", &tls.cert)] {
        if let Some(path) = path {
            certificates(&key_name(settings, name), path)?;
        }
    }
    if let Some(path) = &tls.key {
        let setting = key_name(settings, "TLS_KEY");
        let text = read(&setting, path)?;
        PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| bad(&setting, path, "no private key found; expected PEM"))?;
    }
    Ok(())
}

fn certificates(setting: &str, path: &Path) -> Result<()> {
    let text = read(setting, path)?;
    let mut found = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        certificate.map_err(|_| bad(setting, path, "a certificate is damaged; expected PEM"))?;
        found += 1;
    }
    if found == 0 {
        return Err(bad(setting, path, "no certificate found; expected PEM"));
    }
    Ok(())
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        bad(setting, path, "the file cannot be read; check path and permissions").with_source(error)
    })
}
