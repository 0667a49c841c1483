//! Certificates and keys that are not what they should be.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use goby::blocking;
use goby::tls::{Identity, TlsAcceptor, TlsConnector};

use super::support::{Authority, connected};
use crate::support::{on_workers, with_workers};

#[track_caller]
fn check(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>, expected: &str) {
    let error = Identity::new(chain, key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn errors_say_what_to_do() {
    let authority = Authority::new("root");
    let (chain, key) = authority.issue_pem(&["localhost"], (2001, 3001));
    let (_, other) = authority.issue_pem(&["localhost"], (2001, 3001));
    check("", &key, "the certificate: it is empty; a certificate in PEM or DER is expected");
    check(" \n", &key, "the certificate: it is empty");
    check("hello", &key, "the certificate: it is neither PEM (with the line -----BEGIN CERTIFICATE-----) nor DER");
    check(&key, &key, "the certificate: there is a private key in it and no certificate: have the two been exchanged?");
    check(
        &chain[..chain.len() / 2],
        &key,
        "the certificate: its PEM is damaged: the line -----END CERTIFICATE----- is",
    );
    check(
        chain.replacen("CERTIFICATE-----", "CERTIFICATE", 1),
        &key,
        "the certificate: its PEM is damaged: a line -----",
    );
    check(
        chain.replacen("\nMII", "\n*II", 1),
        &key,
        "the certificate: its PEM is damaged: what is between its lines is no",
    );
    check(b"\x30\x03abc", &key, "the certificate: the certificate cannot be read");
    check(&chain, "", "the key: it is empty; a private key in PEM or DER is expected");
    check(&chain, "hello", "the key: it is neither PEM (with the line -----BEGIN PRIVATE KEY-----) nor a private key");
    check(&chain, &chain, "the key: there is a certificate in it and no private key: have the two been exchanged?");
    check(&chain, other, "the key: the key does not belong to the certificate: give the pair that was made together");
    // The issuer's certificate before the key's own.
    check(authority.pem() + &chain, &key, "the key: the key does not belong to the certificate");
    let damaged = key.replace("PRIVATE KEY", "EC PRIVATE KEY");
    check(&chain, damaged, "the key: the key cannot be used");
    assert!(Identity::new(chain + &authority.pem(), key).is_ok());
}

#[test]
fn der_is_taken_where_pem_is() {
    let authority = Authority::new("root");
    let (chain, key) = authority.issue(&["localhost"]);
    assert!(Identity::new(chain, key).is_ok());
    assert!(TlsConnector::builder().add_root_certificate(authority.der()).build().is_ok());
    let two = authority.pem() + &Authority::new("another root").pem();
    assert!(TlsConnector::builder().system_roots(false).add_root_certificate(two).build().is_ok());
}

/// The formats that openssl writes keys in, and one that is locked.
#[test]
fn keys_of_openssl_are_read() {
    on_workers(1, 0, || {
        let folder = std::env::temp_dir().join(format!("goby-tls-keys-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let script = "
            set -e
            openssl req -x509 -newkey rsa:2048 -nodes -keyout pkcs8.pem -out rsa.crt -days 9 -subj /CN=x 2>&1
            openssl rsa -in pkcs8.pem -traditional -out pkcs1.pem 2>&1
            openssl rsa -in pkcs8.pem -outform DER -out pkcs8.der 2>&1
            openssl x509 -in rsa.crt -outform DER -out rsa.der 2>&1
            openssl rsa -in pkcs8.pem -aes256 -passout pass:secret -out locked.pem 2>&1
            openssl rsa -in pkcs8.pem -traditional -aes256 -passout pass:secret -out old.pem 2>&1
            openssl ecparam -name prime256v1 -genkey -out sec1.pem 2>&1
            openssl req -x509 -key sec1.pem -out ec.crt -days 9 -subj /CN=x 2>&1";
        let output = blocking(|| Command::new("sh").args(["-c", script]).current_dir(&folder).output().unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let read = |chain: &str, key: &str| Identity::from_files(folder.join(chain), folder.join(key));
        for (chain, key) in
            [("rsa.crt", "pkcs8.pem"), ("rsa.crt", "pkcs1.pem"), ("rsa.der", "pkcs8.der"), ("ec.crt", "sec1.pem")]
        {
            read(chain, key).unwrap_or_else(|error| panic!("{chain} {key}: {error}"));
        }
        for key in ["locked.pem", "old.pem"] {
            let error = read("rsa.crt", key).unwrap_err().to_string();
            assert!(
                error.starts_with(folder.to_str().unwrap()) && error.contains("the key is encrypted: decrypt it"),
                "{error}"
            );
        }
        assert_eq!(read("rsa.crt", "none.pem").unwrap_err().kind(), ErrorKind::NotFound);
        fs::remove_dir_all(&folder).unwrap();
    });
}

/// RFC 7301: a name has 1 to 255 bytes. The list of them has to leave room in the client's hello.
#[test]
fn names_of_application_protocols_are_checked() {
    with_workers(|| {
        let authority = Authority::new("root");
        let build = |names: &[Vec<u8>]| {
            let identity = authority.identity(&["localhost"]);
            let client = authority.trusting().alpn(names.iter().cloned()).build();
            (client, TlsAcceptor::builder().identity(identity).alpn(names.iter().cloned()).build())
        };
        let refused = |names: &[Vec<u8>], expected: &str| {
            let (client, server) = build(names);
            for error in [client.map(drop).unwrap_err(), server.map(drop).unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().starts_with(expected), "{error}");
            }
        };
        refused(&[b"h2".to_vec(), Vec::new()], "the application protocol (ALPN) \"\" has 0 bytes: a name has 1 to 255");
        refused(&[vec![b'a'; 256]], "the application protocol (ALPN) \"aaa");
        // 256 bytes each in the list.
        let mut many = vec![vec![b'a'; 255]; 128];
        let (client, server) = build(&many);
        let (client, _server) = connected(&client.unwrap(), "localhost", &server.unwrap());
        assert_eq!(client.alpn_protocol(), Some(&many[0][..]));
        many.push(b"h2".to_vec());
        refused(&many, "the application protocols (ALPN) take 32771 bytes");
    });
}
