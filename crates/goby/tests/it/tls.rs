//! TLS: against itself, against openssl, under load, and with peers that misbehave.

mod duplex;
mod hostile;
mod identities;
mod limits;
mod openssl;
mod polled;
mod reload;
mod roots;
mod support;
mod unix;

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use goby::tls::rustls::{self, ProtocolVersion};
use goby::tls::{self, TlsAcceptor, TlsConnector};
use goby::{Context, go, now, scope};

use crate::support::{on_workers, with_workers};
use support::{Authority, connected, pair};

#[test]
fn both_sides_know_what_was_agreed_on() {
    with_workers(|| {
        let authority = Authority::new("root");
        let acceptor = TlsAcceptor::builder()
            .identity(authority.identity(&["a.example", "b.example"]))
            .require_client_certificates(authority.pem())
            .alpn(["h2", "http/1.1"])
            .build()
            .unwrap();
        let connector =
            authority.trusting().identity(authority.identity(&["client"])).alpn(["http/1.1", "h2"]).build().unwrap();
        let (client, server) = pair(&connector, "b.example", &acceptor);
        assert_eq!(client.protocol_version(), None);
        let shaken = go(move || server.handshake().map(|()| server));
        client.handshake().unwrap();
        let server = shaken.join().unwrap().unwrap();
        for stream in [&client, &server] {
            assert_eq!(stream.protocol_version(), Some(ProtocolVersion::TLSv1_3));
            assert_eq!(stream.alpn_protocol(), Some(&b"h2"[..]), "the server's preference");
            assert_eq!(stream.peer_certificates().unwrap().len(), 1);
            assert!(stream.cipher_suite().is_some());
        }
        assert_eq!((client.server_name(), server.server_name()), (None, Some("b.example")));
    });
}

#[test]
fn a_client_certificate_may_be_optional() {
    with_workers(|| {
        let (authority, other) = (Authority::new("root"), Authority::new("another root"));
        let acceptor = TlsAcceptor::builder()
            .identity(authority.identity(&["localhost"]))
            .request_client_certificates(authority.pem())
            .build()
            .unwrap();
        let handshake = |connector: &TlsConnector| {
            let (client, server) = pair(connector, "localhost", &acceptor);
            let shaken = go(move || server.handshake().map(|()| server.peer_certificates().is_some()));
            let read = (&client).read(&mut [0]);
            (shaken.join().unwrap(), read.unwrap_err())
        };
        let (known, _) = handshake(&authority.trusting().build().unwrap());
        assert!(!known.unwrap(), "none was shown");
        let (known, _) = handshake(&authority.trusting().identity(authority.identity(&["c"])).build().unwrap());
        assert!(known.unwrap());
        let (known, told) = handshake(&authority.trusting().identity(other.identity(&["c"])).build().unwrap());
        let refused = known.unwrap_err();
        assert!(tls::Error::find(&refused).unwrap().is_certificate(), "{refused}");
        assert_eq!(told.to_string(), "the other side does not trust who issued this side's certificate");
    });
}

#[test]
fn names_choose_certificates() {
    with_workers(|| {
        let authority = Authority::new("root");
        let names = ["one.example", "two.example", "*.three.example"];
        let builder =
            names.iter().fold(TlsAcceptor::builder(), |builder, name| builder.identity(authority.identity(&[name])));
        let acceptor = builder.build().unwrap();
        let connector = authority.connector();
        for name in ["one.example", "two.example", "x.three.example"] {
            drop(connected(&connector, name, &acceptor));
        }
        let (client, server) = pair(&connector, "four.example", &acceptor);
        let shaken = go(move || server.handshake().unwrap_err());
        let error = client.handshake().unwrap_err();
        assert_eq!(error.to_string(), "the certificate is for one.example, not for four.example");
        assert!(shaken.join().unwrap().to_string().starts_with("the other side does not accept"), "an alert came");
    });
}

#[test]
fn certificates_are_refused_in_plain_words() {
    with_workers(|| {
        let (authority, other) = (Authority::new("root"), Authority::new("another root"));
        let check = |identity, name: &str, expected: &str| {
            let acceptor = TlsAcceptor::new(identity).unwrap();
            let (client, server) = pair(&authority.connector(), name, &acceptor);
            let shaken = go(move || server.handshake().unwrap_err());
            let error = client.handshake().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            let reason = tls::Error::find(&error).unwrap();
            assert!(reason.is_certificate() && reason.to_string().starts_with(expected), "{reason}");
            // A session that has failed fails again in the same way, and can be shut down.
            assert_eq!((&client).read(&mut [0]).unwrap_err().to_string(), error.to_string());
            assert_eq!((&client).write(&[0]).unwrap_err().to_string(), error.to_string());
            client.shutdown().unwrap();
            assert!(tls::Error::find(&shaken.join().unwrap()).is_some());
        };
        check(other.identity(&["localhost"]), "localhost", "the certificate was issued by somebody who is not trusted");
        check(
            authority.identity(&["a.example", "127.0.0.1"]),
            "b.example",
            "the certificate is for a.example, 127.0.0.1, not for b.example",
        );
        let expired = authority.identity_valid(&["localhost"], 2001, 2002);
        check(expired, "localhost", "the certificate expired on 2002-01-01 00:00 UTC");
        let early = authority.identity_valid(&["localhost"], 3001, 3002);
        check(early, "localhost", "the certificate is valid from 3001-01-01 00:00 UTC on: is this machine's clock");
    });
}

#[test]
fn the_danger_switch_accepts_everything() {
    with_workers(|| {
        let expired = Authority::new("root").identity_valid(&["elsewhere.example"], 2001, 2002);
        let builder = TlsConnector::builder().danger_accept_invalid_certs(true);
        assert!(format!("{builder:?}").contains("danger_accept_invalid_certs: true"));
        drop(connected(&builder.build().unwrap(), "localhost", &TlsAcceptor::new(expired).unwrap()));
    });
}

#[test]
fn rustls_own_configurations_are_taken() {
    with_workers(|| {
        let authority = Authority::new("root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().into()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (chain, key) = authority.issue(&["localhost"]);
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain.into()], key.try_into().unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let (client, _server) = connected(&TlsConnector::from(Arc::new(client)), "localhost", &acceptor);
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
        let error = acceptor.reload([authority.identity(&["localhost"])]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    });
}

/// Another crate may bring a second provider, or install one that cannot do anything: then rustls'
/// own builders panic or fail.
#[test]
fn other_providers_of_the_process_do_not_matter() {
    on_workers(2, 0, || {
        let mut useless = rustls::crypto::ring::default_provider();
        useless.cipher_suites.clear();
        useless.install_default().expect("the only test that installs one");
        let authority = Authority::new("root");
        let acceptor = TlsAcceptor::builder()
            .identity(authority.identity(&["localhost"]))
            .require_client_certificates(authority.pem())
            .build()
            .unwrap();
        let connector = authority.trusting().identity(authority.identity(&["client"])).build().unwrap();
        drop(connected(&connector, "localhost", &acceptor));
        let careless = TlsConnector::builder().danger_accept_invalid_certs(true).build().unwrap();
        drop(careless.connect("localhost", support::tcp_pair().0).unwrap());
    });
}

#[test]
fn limits_end_every_wait_and_leave_the_session_intact() {
    with_workers(|| {
        let authority = Authority::new("root");
        let acceptor = authority.acceptor(&["localhost"]);
        let (client, server) = pair(&authority.connector(), "localhost", &acceptor);
        let soon = || now() + Duration::from_millis(5);
        // The handshake: by a context of the call, one of the stream, and a deadline.
        let (ctx, _cancel) = Context::background().with_timeout(Duration::from_millis(5));
        assert_eq!(client.handshake_ctx(&ctx).unwrap_err().kind(), ErrorKind::TimedOut);
        let (ctx, cancel) = Context::background().with_cancel();
        client.get_ref().set_context(Some(&ctx));
        scope(|s| {
            let shaking = s.go(|| client.handshake().unwrap_err().kind());
            cancel.cancel();
            assert_eq!(shaking.join().unwrap(), ErrorKind::ConnectionAborted);
        });
        client.get_ref().set_context(None);
        client.get_ref().set_read_deadline(Some(soon()));
        assert_eq!(client.handshake().unwrap_err().kind(), ErrorKind::TimedOut);
        client.get_ref().set_read_deadline(None);
        // All that has left the session as it was.
        let shaken = go(move || server.handshake().map(|()| server));
        client.handshake().unwrap();
        let server = shaken.join().unwrap().unwrap();
        // Reading.
        client.get_ref().set_read_deadline(Some(soon()));
        assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
        client.get_ref().set_read_deadline(None);
        // Writing to one who does not read: what was taken was counted.
        client.get_ref().set_write_deadline(Some(now() + Duration::from_millis(50)));
        let (mut sent, piece) = (0, [7; 50_000]);
        let error = loop {
            match (&client).write(&piece) {
                Ok(n) => sent += n,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!((&client).flush().unwrap_err().kind(), ErrorKind::TimedOut);
        client.get_ref().set_write_deadline(None);
        let reader = go(move || {
            let mut all = Vec::new();
            (&server).read_to_end(&mut all).map(|_| all)
        });
        client.shutdown().unwrap();
        let all = reader.join().unwrap().unwrap();
        assert!(all.len() == sent && all.iter().all(|&byte| byte == 7), "{} of {sent}", all.len());
    });
}

#[test]
fn an_end_without_close_notify_is_no_end() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        (&server).write_all(b"all of it?").unwrap();
        drop(server);
        let mut text = Vec::new();
        let error = (&client).read_to_end(&mut text).unwrap_err();
        assert_eq!((error.kind(), &text[..]), (ErrorKind::UnexpectedEof, &b"all of it?"[..]));
        assert!(error.to_string().contains("close_notify"), "{error}");
    });
}

/// After its own shutdown a side can read on, but not write.
#[test]
fn one_direction_may_end_before_the_other() {
    with_workers(|| {
        let authority = Authority::new("root");
        let (client, server) = connected(&authority.connector(), "localhost", &authority.acceptor(&["localhost"]));
        client.shutdown().unwrap();
        client.shutdown().unwrap();
        assert_eq!((&client).write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!((&server).read(&mut [0]).unwrap(), 0);
        (&server).write_all(b"still here").unwrap();
        server.shutdown().unwrap();
        assert_eq!(io::read_to_string(&client).unwrap(), "still here");
    });
}
