//! Certificates, and connections that use them.

use std::io;

use goby::go;
use goby::net::{TcpListener, TcpStream};
use goby::tls::{Identity, TlsAcceptor, TlsConnector, TlsConnectorBuilder, TlsStream};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// One that issues certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub(super) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(super) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    fn certify(&self, names: &[&str], years: (i32, i32)) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// A certificate for these names and its key, in DER.
    pub(super) fn issue(&self, names: &[&str]) -> (Vec<u8>, Vec<u8>) {
        let (certificate, key) = self.certify(names, (2001, 3001));
        (certificate.der().to_vec(), key.serialize_der())
    }

    /// The same in PEM.
    pub(super) fn issue_pem(&self, names: &[&str], years: (i32, i32)) -> (String, String) {
        let (certificate, key) = self.certify(names, years);
        (certificate.pem(), key.serialize_pem())
    }

    pub(super) fn identity(&self, names: &[&str]) -> Identity {
        self.identity_valid(names, 2001, 3001)
    }

    pub(super) fn identity_valid(&self, names: &[&str], from: i32, to: i32) -> Identity {
        let (chain, key) = self.issue_pem(names, (from, to));
        Identity::new(chain, key).unwrap()
    }

    pub(super) fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        TlsAcceptor::new(self.identity(names)).unwrap()
    }

    /// A connector that trusts this one only.
    pub(super) fn trusting(&self) -> TlsConnectorBuilder {
        TlsConnector::builder().system_roots(false).add_root_certificate(self.pem())
    }

    pub(super) fn connector(&self) -> TlsConnector {
        self.trusting().build().unwrap()
    }
}

/// The two ends of a connection without TLS.
pub(super) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// The two ends of a connection, before the handshake.
pub(super) fn pair(connector: &TlsConnector, name: &str, acceptor: &TlsAcceptor) -> (TlsStream, TlsStream) {
    let (client, server) = tcp_pair();
    (connector.connect(name, client).unwrap(), acceptor.accept(server).unwrap())
}

/// The two ends of a connection, after the handshake.
pub(super) fn connected(connector: &TlsConnector, name: &str, acceptor: &TlsAcceptor) -> (TlsStream, TlsStream) {
    let (client, server) = pair(connector, name, acceptor);
    let shaken = go(move || server.handshake().map(|()| server));
    client.handshake().unwrap();
    (client, shaken.join().unwrap().unwrap())
}

/// Sends back what comes, to the end.
pub(super) fn echo(stream: &TlsStream) -> io::Result<u64> {
    let copied = io::copy(&mut &*stream, &mut &*stream)?;
    stream.shutdown()?;
    Ok(copied)
}
