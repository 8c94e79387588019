//! Certificates made for one test: good, expired, for another host, by another authority.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// The hosts of a good server certificate.
const LOOPBACK: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate authority; its files are deleted with it and the last of its certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: Arc<TempDir>,
    issued: AtomicUsize,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    _folder: Arc<TempDir>,
}

impl Certificate {
    /// The certificate file.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The private key file.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

impl Authority {
    /// A new authority that nobody trusts yet.
    ///
    /// # Panics
    ///
    /// When its folder cannot be written.
    #[must_use]
    pub fn new() -> Authority {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut params = params(&format!("Test authority {number}"), &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::Builder::new().prefix("certificates-").tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("a file");
        let issuer = Issuer::new(params, key);
        Authority { issuer, folder: Arc::new(folder), issued: AtomicUsize::new(0) }
    }

    /// The authority's own certificate file, which clients and servers trust.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// For a server on `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn server(&self) -> Certificate {
        self.issue(&server_params(&LOOPBACK))
    }

    /// For a server on another host.
    #[must_use]
    pub fn server_for(&self, host: &str) -> Certificate {
        self.issue(&server_params(&[host]))
    }

    /// For a server on loopback, expired long ago.
    #[must_use]
    pub fn expired_server(&self) -> Certificate {
        let mut params = server_params(&LOOPBACK);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.issue(&params)
    }

    /// For a client.
    #[must_use]
    pub fn client(&self, name: &str) -> Certificate {
        let mut params = params(name, &[]);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let write = |name: String, content: String| {
            let file = self.folder.path().join(name);
            fs::write(&file, content).expect("a file");
            file
        };
        Certificate {
            certificate: write(format!("{number}.pem"), signed.pem()),
            key: write(format!("{number}.key"), key.serialize_pem()),
            _folder: self.folder.clone(),
        }
    }
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("valid host names");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn server_params(hosts: &[&str]) -> CertificateParams {
    let mut params = params("Test server", hosts);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}
