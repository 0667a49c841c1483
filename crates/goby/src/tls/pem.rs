//! Certificates and keys, in PEM or DER. Every error says what to do.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::blocking;

/// A certificate with its chain, and the private key that belongs to it: what one side shows to the
/// other.
///
/// ```
/// use goby::tls::{Identity, TlsAcceptor};
/// let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
/// let identity = Identity::new(made.cert.pem(), made.signing_key.serialize_pem())?;
/// let acceptor = TlsAcceptor::new(identity)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias("tls.Certificate", "X509KeyPair"))]
pub struct Identity {
    pub(super) key: Arc<CertifiedKey>,
}

impl Identity {
    /// Takes a chain of certificates and the key of its first one, each in PEM or DER.
    ///
    /// The certificate of the key comes first, then that of its issuer, and so on; the root may be
    /// left out. The key may be PKCS#8, PKCS#1 or SEC1, not encrypted.
    ///
    /// ```
    /// use goby::tls::Identity;
    /// let one = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    /// assert!(Identity::new(one.cert.pem(), one.signing_key.serialize_pem()).is_ok());
    /// let error = Identity::new(one.cert.pem(), other.signing_key.serialize_pem()).unwrap_err();
    /// assert!(error.to_string().contains("the key does not belong to the certificate"));
    /// # Ok::<(), rcgen::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput`, if there is no certificate or no key in what is given, if it cannot be read,
    /// or if the two do not belong together. The text says what to do.
    #[doc(alias("from_pem", "from_pkcs8"))]
    pub fn new(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> io::Result<Identity> {
        Identity::from_bytes(chain.as_ref(), key.as_ref(), &Place::Given)
    }

    /// Reads a chain of certificates and the key of its first one from files, as
    /// [`new`](Identity::new) takes them.
    ///
    /// Read them again to [reload](super::TlsAcceptor::reload) them.
    ///
    /// ```
    /// let error = goby::tls::Identity::from_files("/nowhere/cert.pem", "/nowhere/key.pem").unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// assert!(error.to_string().starts_with("/nowhere/cert.pem: "));
    /// ```
    ///
    /// # Blocking
    ///
    /// Parks the goroutine; a helper thread reads the files.
    ///
    /// # Errors
    ///
    /// The system's errors, and those of `new`, with the name of the file.
    #[doc(alias("LoadX509KeyPair"))]
    pub fn from_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<Identity> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let (chain_bytes, key_bytes) = (read(chain)?, read(key)?);
        Identity::from_bytes(&chain_bytes, &key_bytes, &Place::Files(chain, key))
    }

    fn from_bytes(chain: &[u8], key: &[u8], place: &Place<'_>) -> io::Result<Identity> {
        let (of_chain, of_key) = match place {
            Place::Given => ("the certificate".to_owned(), "the key".to_owned()),
            Place::Files(chain, key) => (chain.display().to_string(), key.display().to_string()),
        };
        let certificates = certificates(chain).map_err(|error| invalid(&of_chain, error))?;
        let key = private_key(key).map_err(|error| invalid(&of_key, error))?;
        match CertifiedKey::from_der(certificates, key, &super::provider()) {
            Ok(key) => Ok(Identity { key: Arc::new(key) }),
            Err(rustls::Error::InconsistentKeys(_)) => Err(invalid(
                &of_key,
                "the key does not belong to the certificate: give the pair that was made together, and let the \
                 key's own certificate come first in its chain",
            )),
            Err(rustls::Error::InvalidCertificate(error)) => {
                Err(invalid(&of_chain, format!("the certificate cannot be read: {error}")))
            }
            Err(error) => Err(invalid(&of_key, format!("the key cannot be used: {error}"))),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.key.cert.len()).finish_non_exhaustive()
    }
}

/// Where bytes came from, for errors.
enum Place<'a> {
    Given,
    Files(&'a Path, &'a Path),
}

/// Reads a file on a helper thread.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    blocking(|| fs::read(path)).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Adds the certificates in these bytes, at least one, to the roots.
pub(super) fn add_roots(roots: &mut RootCertStore, bytes: &[u8], place: &str) -> io::Result<()> {
    for certificate in certificates(bytes).map_err(|error| invalid(place, error))? {
        roots.add(certificate).map_err(|error| {
            let error = super::Error::from(error);
            invalid(place, format!("it cannot be a root: {error}"))
        })?;
    }
    Ok(())
}

/// Reads at least one certificate.
fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    if bytes.trim_ascii().is_empty() {
        return Err("it is empty; a certificate in PEM or DER is expected".to_owned());
    }
    if !is_pem(bytes) {
        // DER begins with the tag of a sequence.
        return match bytes[0] {
            0x30 => Ok(vec![CertificateDer::from(bytes.to_vec())]),
            _ => Err("it is neither PEM (with the line -----BEGIN CERTIFICATE-----) nor DER".to_owned()),
        };
    }
    let (mut found, mut has_key) = (Vec::new(), false);
    for section in sections(bytes)? {
        match section {
            (SectionKind::Certificate, der) => found.push(CertificateDer::from(der)),
            (kind, _) => has_key |= is_key(kind),
        }
    }
    match (found.is_empty(), has_key) {
        (false, _) => Ok(found),
        (true, true) => Err("there is a private key in it and no certificate: have the two been exchanged?".to_owned()),
        (true, false) => Err("there is no certificate in it (the line -----BEGIN CERTIFICATE-----)".to_owned()),
    }
}

/// Reads the first private key.
fn private_key(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if bytes.trim_ascii().is_empty() {
        return Err("it is empty; a private key in PEM or DER is expected".to_owned());
    }
    if !is_pem(bytes) {
        return PrivateKeyDer::try_from(bytes.to_vec()).map_err(|_| {
            "it is neither PEM (with the line -----BEGIN PRIVATE KEY-----) nor a private key in DER".to_owned()
        });
    }
    if contains(bytes, b"ENCRYPTED") {
        return Err("the key is encrypted: decrypt it, by openssl pkey -in KEY -out PLAIN say".to_owned());
    }
    let mut has_certificate = false;
    for (kind, der) in sections(bytes)? {
        has_certificate |= kind == SectionKind::Certificate;
        if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
            return Ok(key);
        }
    }
    Err(match has_certificate {
        true => "there is a certificate in it and no private key: have the two been exchanged?".to_owned(),
        false => "there is no private key in it (the line -----BEGIN PRIVATE KEY-----)".to_owned(),
    })
}

fn sections(bytes: &[u8]) -> Result<Vec<(SectionKind, Vec<u8>)>, String> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
    sections.collect::<Result<_, _>>().map_err(|error| format!("its PEM is damaged: {}", Damage(error)))
}

/// What is wrong with PEM. It shows no line: what is there may be of a private key.
struct Damage(pem::Error);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            pem::Error::MissingSectionEnd { end_marker } => {
                write!(f, "the line -----END {}----- is missing", end_marker.escape_ascii())
            }
            pem::Error::IllegalSectionStart { .. } => f.write_str("a line -----BEGIN does not end in -----"),
            pem::Error::Base64Decode(_) => f.write_str("what is between its lines is no base64"),
            error => error.fmt(f),
        }
    }
}

fn is_key(kind: SectionKind) -> bool {
    matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey)
}

fn is_pem(bytes: &[u8]) -> bool {
    contains(bytes, b"-----BEGIN ")
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn invalid(place: &str, error: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{place}: {error}"))
}
