//! A door that speaks TLS in front of a server that does not.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::Certificate;
use crate::server::loopback;

/// Accepts TLS on a port of its own and forwards to a server; on a thread of its own until dropped.
#[derive(Debug)]
pub(super) struct TlsDoor {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl TlsDoor {
    pub(super) fn open(
        certificate: &Certificate,
        client_ca: Option<&Path>,
        server: SocketAddr,
    ) -> TlsDoor {
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate, client_ca)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tls-door")
            .enable_all()
            .build()
            .expect("a thread");
        let listener = runtime.block_on(TcpListener::bind(loopback(0))).expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        runtime.spawn(async move {
            loop {
                // A client that is gone before it was accepted is not a connection.
                let Ok((client, _)) = listener.accept().await else { continue };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Either end may go at any time; the other learns it when its stream is dropped.
                    if let (Ok(mut client), Ok(mut server)) =
                        (acceptor.accept(client).await, TcpStream::connect(server).await)
                    {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        TlsDoor { address, runtime: Some(runtime) }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a runtime waits, which asynchronous code must not.
            runtime.shutdown_background();
        }
    }
}

fn config(certificate: &Certificate, client_ca: Option<&Path>) -> ServerConfig {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(file) {
                roots.add(root).expect("an authority's certificate");
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = fs::read(certificate.key()).expect("the key's file");
    let key = PrivateKeyDer::from_pem_slice(&key).expect("a key");
    builder.with_single_cert(certificates(certificate.certificate()), key).expect("they fit")
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let text = fs::read(file).expect("a certificate's file");
    CertificateDer::pem_slice_iter(&text).map(|found| found.expect("a certificate")).collect()
}
