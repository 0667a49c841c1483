//! What went wrong in TLS, in plain words.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// Why TLS failed: the certificate, the handshake, or what the other side sent.
///
/// It is what the [`std::io::Error`]s of a [`TlsStream`](super::TlsStream) contain, if TLS failed
/// and not the stream beneath. Its text says what is wrong and what can be done;
/// [`rustls_error`](Error::rustls_error) says it for programs.
///
/// ```
/// use goby::tls;
/// use rustls::CertificateError::UnknownIssuer;
/// let error = tls::Error::from(rustls::Error::from(UnknownIssuer));
/// assert!(error.to_string().starts_with("the certificate was issued by somebody who is not trusted here"));
/// ```
#[derive(Clone)]
pub struct Error {
    error: rustls::Error,
    /// What the other side sent first looks like HTTP without TLS.
    is_plain_http: bool,
}

impl Error {
    pub(super) fn new(error: rustls::Error, received: &[u8]) -> Error {
        let is_garbage = matches!(error, rustls::Error::InvalidMessage(_));
        Error { error, is_plain_http: is_garbage && is_http(received) }
    }

    /// Finds the error of TLS in an error, or in what caused it.
    ///
    /// ```
    /// use goby::tls::{self, TlsConnector};
    /// use std::{io, net::TcpListener};
    /// use std::io::Write;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = goby::net::TcpStream::connect(listener.local_addr()?)?;
    /// listener.accept()?.0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    /// let error = TlsConnector::new()?.connect("localhost", stream)?.handshake().unwrap_err();
    /// let reason = tls::Error::find(&error).expect("TLS failed");
    /// assert_eq!(reason.to_string(), "the other side speaks plain HTTP, not TLS: is it the right port?");
    /// # Ok::<(), io::Error>(())
    /// ```
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Error>() {
                return Some(found);
            }
            // The source of an `io::Error` is the source of what is in it.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<Error>()) {
                return Some(found);
            }
            next = error.source();
        }
        None
    }

    /// Returns rustls' own error.
    ///
    /// ```
    /// let error = goby::tls::Error::from(rustls::Error::DecryptError);
    /// assert_eq!(*error.rustls_error(), rustls::Error::DecryptError);
    /// ```
    pub fn rustls_error(&self) -> &rustls::Error {
        &self.error
    }

    /// Returns whether the other side's certificate was refused here.
    ///
    /// ```
    /// use rustls::CertificateError::Expired;
    /// assert!(goby::tls::Error::from(rustls::Error::from(Expired)).is_certificate());
    /// assert!(!goby::tls::Error::from(rustls::Error::DecryptError).is_certificate());
    /// ```
    pub fn is_certificate(&self) -> bool {
        matches!(self.error, rustls::Error::InvalidCertificate(_))
    }

    /// Returns whether the other side speaks HTTP without TLS.
    ///
    /// ```
    /// assert!(!goby::tls::Error::from(rustls::Error::DecryptError).is_plain_http());
    /// ```
    pub fn is_plain_http(&self) -> bool {
        self.is_plain_http
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Error {
        Error { error, is_plain_http: false }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("tls::Error").field(&self.error).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use rustls::Error as E;
        match &self.error {
            _ if self.is_plain_http => f.write_str("the other side speaks plain HTTP, not TLS: is it the right port?"),
            E::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                f.write_str("the other side does not speak TLS: is it the right port?")
            }
            E::InvalidCertificate(error) => certificate(f, error),
            E::AlertReceived(alert) => received(f, *alert),
            E::NoCertificatesPresented => f.write_str("the other side sent no certificate, and one is required"),
            E::PeerIncompatible(reason) => {
                write!(f, "both sides have no version, cipher or key exchange of TLS in common ({reason:?})")
            }
            E::NoApplicationProtocol => f.write_str("both sides have no application protocol (ALPN) in common"),
            E::DecryptError => f.write_str("what was received has been changed on its way, or is not TLS"),
            E::PeerMisbehaved(reason) => write!(f, "the other side breaks the rules of TLS ({reason:?})"),
            error => write!(f, "TLS failed: {error}"),
        }
    }
}

/// Says why a certificate was refused.
fn certificate(f: &mut fmt::Formatter<'_>, error: &CertificateError) -> fmt::Result {
    use CertificateError as E;
    match error {
        E::UnknownIssuer => f.write_str(
            "the certificate was issued by somebody who is not trusted here: add the issuer's certificate to the \
             roots, or let the server send its whole chain",
        ),
        E::Expired => f.write_str("the certificate has expired"),
        E::ExpiredContext { not_after, .. } => write!(f, "the certificate expired on {}", Date(not_after)),
        E::NotValidYet => f.write_str("the certificate is not valid yet: is this machine's clock right?"),
        E::NotValidYetContext { not_before, .. } => {
            write!(f, "the certificate is valid from {} on: is this machine's clock right?", Date(not_before))
        }
        E::NotValidForName => f.write_str("the certificate is for another name"),
        E::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            match names.is_empty() {
                true => write!(
                    f,
                    "the certificate is for no name, so not for {}: it needs a subjectAltName",
                    expected.to_str()
                ),
                false => write!(f, "the certificate is for {}, not for {}", names.join(", "), expected.to_str()),
            }
        }
        E::Revoked => f.write_str("the certificate has been revoked"),
        E::BadEncoding => f.write_str("the certificate cannot be read"),
        E::BadSignature => f.write_str("the signature on the certificate, or by its key, is wrong"),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => f.write_str(
            "the certificate is not meant for this purpose: one for servers is used by a client, or the like",
        ),
        E::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => f.write_str(
            "the certificate is an issuer's own (CA:TRUE), and cannot be a server's or client's at the same \
             time: make one with basicConstraints=CA:FALSE",
        ),
        error => write!(f, "the certificate is not accepted: {error}"),
    }
}

/// Says why the other side gave up.
fn received(f: &mut fmt::Formatter<'_>, alert: AlertDescription) -> fmt::Result {
    use AlertDescription as A;
    let text = match alert {
        A::UnknownCA => "the other side does not trust who issued this side's certificate",
        A::CertificateRequired => "the other side wants a client certificate, and got none",
        A::CertificateExpired => "the other side says that this side's certificate has expired, or is not valid yet",
        A::CertificateRevoked => "the other side says that this side's certificate has been revoked",
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown => {
            "the other side does not accept this side's certificate"
        }
        A::ProtocolVersion => "the other side does not speak these versions of TLS",
        A::HandshakeFailure => {
            "the other side gave up the handshake: no cipher in common, or it wants a client certificate"
        }
        A::NoApplicationProtocol => "both sides have no application protocol (ALPN) in common",
        A::UnrecognisedName => "the other side does not know the name that it was asked for",
        A::AccessDenied => "the other side denies access",
        alert => return write!(f, "the other side gave up: {alert:?}"),
    };
    f.write_str(text)
}

/// Takes the name out of how rustls shows it, such as `DnsName("localhost")`.
fn bare(shown: &str) -> &str {
    let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(shown);
    inner.trim_matches('"')
}

/// Returns whether this is the beginning of a request or of a response of HTTP/1, or of HTTP/2.
fn is_http(received: &[u8]) -> bool {
    let words: [&[u8]; 10] =
        [b"HTTP/", b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE", b"OPTION", b"PATCH ", b"CONNEC", b"PRI * "];
    words.iter().any(|word| received.starts_with(word))
}

/// A time of certificates, as a date and time of day in UTC.
struct Date<'a>(&'a UnixTime);

impl fmt::Display for Date<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Years begin in March here, so that the leap day is the last one; eras have 400 years.
        // Day 719,468 of that count is 1970-01-01 (H. Hinnant's `civil_from_days`).
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * months + 2) / 5 + 1;
        let month = if months < 10 { months + 3 } else { months - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest / 60 % 60)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |seconds| Date(&UnixTime::since_unix_epoch(Duration::from_secs(seconds))).to_string();
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn names_are_bare() {
        assert_eq!(bare("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare("IpAddress(192.0.2.1)"), "192.0.2.1");
        assert_eq!(bare("other"), "other");
    }
}
