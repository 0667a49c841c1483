//! What to trust: the system's roots, those that browsers trust where the system has none, and
//! extra ones.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

use super::pem;
use crate::blocking;
use crate::sync::OnceCell;

/// The roots of a connector or an acceptor, before they are read.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    pub(super) with_system: bool,
    pub(super) extra: Vec<Extra>,
}

#[derive(Clone, Debug)]
pub(super) enum Extra {
    Bytes(Vec<u8>),
    File(PathBuf),
}

impl Roots {
    /// Reads them all.
    pub(super) fn load(&self) -> io::Result<Arc<RootCertStore>> {
        if self.with_system && self.extra.is_empty() {
            return system();
        }
        let mut roots = match self.with_system {
            true => system()?.as_ref().clone(),
            false => RootCertStore::empty(),
        };
        for extra in &self.extra {
            match extra {
                Extra::Bytes(bytes) => pem::add_roots(&mut roots, bytes, "the root certificate")?,
                Extra::File(path) => pem::add_roots(&mut roots, &pem::read(path)?, &path.display().to_string())?,
            }
        }
        if roots.is_empty() {
            let text = "there is no root certificate, so nobody could be trusted: add one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Arc::new(roots))
    }
}

/// Returns the system's roots. They are read once per process, as in Go.
fn system() -> io::Result<Arc<RootCertStore>> {
    static SYSTEM: OnceCell<Arc<RootCertStore>> = OnceCell::new();
    SYSTEM.get_or_try_init(|| blocking(load_system)).cloned()
}

fn load_system() -> io::Result<Arc<RootCertStore>> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // As every program of the system does, this one leaves out what it cannot read.
    roots.add_parsable_certificates(loaded.certs);
    if !roots.is_empty() {
        return Ok(Arc::new(roots));
    }
    // Whoever names a file must not get other roots instead of those in it.
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = env::var_os(name) {
            let reason = loaded.errors.first().map_or("there is no certificate in it".to_owned(), ToString::to_string);
            let text = format!(
                "no root certificate could be read from {name}={}: {reason}; correct the variable, or unset it to \
                 use the system's roots",
                value.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    Ok(Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }))
}
