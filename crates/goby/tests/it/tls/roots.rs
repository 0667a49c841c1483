//! Where roots come from. They are read once per process, so each case has a process of its own.

use std::io::Read;

use goby::go;
use goby::tls::{self, TlsAcceptor, TlsConnector};
use goby_test_support::{in_child_with, stderr};

use super::support::{Authority, connected, pair};
use crate::support::on_workers;

/// Makes a folder with the root's certificate; the child gets it by name.
fn with_folder(test: &str, body: impl FnOnce(&std::path::Path, &Authority)) {
    let folder = std::env::temp_dir().join(format!("goby-tls-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let authority = Authority::new("root");
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let (chain, key) = authority.issue_pem(&["localhost"], (2001, 3001));
    std::fs::write(folder.join("cert.pem"), chain).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
    body(&folder, &authority);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn identity() -> goby::tls::Identity {
    let folder = std::path::PathBuf::from(std::env::var_os("GOBY_TEST_FOLDER").unwrap());
    goby::tls::Identity::from_files(folder.join("cert.pem"), folder.join("key.pem")).unwrap()
}

/// Runs the body in a child with this variable set to something in the folder, and the other one
/// empty: the machine may have set it.
fn check(test: &str, variable: &str, value: &str, body: impl Fn() + Send + Sync) {
    with_folder(test, |folder, _| {
        let path = folder.join(value);
        let variables = [
            ("SSL_CERT_FILE", ""),
            ("SSL_CERT_DIR", ""),
            (variable, path.to_str().unwrap()),
            ("GOBY_TEST_FOLDER", folder.to_str().unwrap()),
        ];
        let output = in_child_with(&format!("tls::roots::{test}"), &variables, || on_workers(2, 0, &body));
        assert!(output.status.success(), "{}", stderr(&output));
    });
}

#[test]
fn the_environment_names_a_file() {
    check("the_environment_names_a_file", "SSL_CERT_FILE", "ca.pem", || {
        let acceptor = goby::tls::TlsAcceptor::new(identity()).unwrap();
        drop(connected(&TlsConnector::new().unwrap(), "localhost", &acceptor));
        // Extra roots come on top.
        let other = Authority::new("another root");
        let both = TlsConnector::builder().add_root_certificate(other.pem()).build().unwrap();
        drop(connected(&both, "localhost", &acceptor));
        drop(connected(&both, "localhost", &other.acceptor(&["localhost"])));
    });
}

#[test]
fn the_environment_names_a_folder() {
    check("the_environment_names_a_folder", "SSL_CERT_DIR", ".", || {
        let other = Authority::new("another root");
        let acceptor = goby::tls::TlsAcceptor::new(identity()).unwrap();
        drop(connected(&TlsConnector::new().unwrap(), "localhost", &acceptor));
        // The roots are those of the folder alone.
        let (client, server) = pair(&TlsConnector::new().unwrap(), "localhost", &other.acceptor(&["localhost"]));
        let shaken = go(move || server.handshake().unwrap_err());
        let error = client.handshake().unwrap_err();
        assert!(tls::Error::find(&error).unwrap().is_certificate(), "{error}");
        shaken.join().unwrap();
    });
}

/// A server takes the roots of its clients from a file, too.
#[test]
fn a_file_says_whose_clients_are_let_in() {
    with_folder("clients", |folder, authority| {
        let roots = folder.join("ca.pem");
        on_workers(2, 0, || {
            let builder = || TlsAcceptor::builder().identity(authority.identity(&["localhost"]));
            let known = authority.trusting().identity(authority.identity(&["client"])).build().unwrap();
            let required = builder().require_client_certificates_file(&roots).build().unwrap();
            let (_client, server) = connected(&known, "localhost", &required);
            assert_eq!(server.peer_certificates().unwrap().len(), 1);
            let unknown = authority.connector();
            let (client, server) = pair(&unknown, "localhost", &required);
            let shaken = go(move || server.handshake().unwrap_err());
            assert!((&client).read(&mut [0]).is_err());
            let refused = shaken.join().unwrap().to_string();
            assert_eq!(refused, "the other side sent no certificate, and one is required");
            let requested = builder().request_client_certificates_file(&roots).build().unwrap();
            let (_client, server) = connected(&unknown, "localhost", &requested);
            assert_eq!(server.peer_certificates(), None);
            let key = folder.join("key.pem");
            let error = builder().require_client_certificates_file(&key).build().unwrap_err().to_string();
            assert!(error.starts_with(key.to_str().unwrap()) && error.contains("no certificate"), "{error}");
        });
    });
}

#[test]
fn a_file_without_roots_is_an_error() {
    check("a_file_without_roots_is_an_error", "SSL_CERT_FILE", "none.pem", || {
        let error = TlsConnector::new().unwrap_err().to_string();
        assert!(error.starts_with("no root certificate could be read from SSL_CERT_FILE="), "{error}");
        assert!(error.ends_with("correct the variable, or unset it to use the system's roots"), "{error}");
        assert!(Authority::new("root").trusting().build().is_ok(), "the system's are not wanted");
    });
}
