//! New certificates for a server that runs.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use goby::net::{TcpListener, TcpStream};
use goby::tls::Identity;
use goby::{Context, scope, yield_now};

use super::support::{Authority, connected, echo};
use crate::support::{on_workers, with_workers};

#[test]
fn new_handshakes_see_the_new_certificate() {
    with_workers(|| {
        let (old, new) = (Authority::new("old"), Authority::new("new"));
        let acceptor = old.acceptor(&["localhost"]);
        // One connector for all, which remembers sessions, and trusts both.
        let connector = old.trusting().add_root_certificate(new.pem()).build().unwrap();
        let (client, server) = connected(&connector, "localhost", &acceptor);
        let before = client.peer_certificates().unwrap().to_vec();
        // The client gets its ticket.
        (&server).write_all(b"1").unwrap();
        (&client).read_exact(&mut [0]).unwrap();
        acceptor.clone().reload([new.identity(&["localhost"])]).unwrap();
        let (later, _server) = connected(&connector, "localhost", &acceptor);
        assert_ne!(later.peer_certificates().unwrap(), before);
        // The running connection goes on.
        (&client).write_all(b"2").unwrap();
        (&server).read_exact(&mut [0]).unwrap();
        // What fails changes nothing.
        assert!(Identity::new(new.pem(), "nonsense").and_then(|identity| acceptor.reload([identity])).is_err());
        assert!(acceptor.reload([]).is_err());
        drop(connected(&new.connector(), "localhost", &acceptor));
    });
}

/// A thousand handshakes while the certificate changes all the time: none fails.
#[test]
fn no_handshake_fails_while_certificates_change() {
    const CLIENTS: usize = 10;
    const EACH: usize = 100;
    on_workers(2, 0, || {
        let authority = Authority::new("root");
        let acceptor = authority.acceptor(&["localhost"]);
        let identities: Vec<_> = (0..20).map(|_| authority.identity(&["localhost"])).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (ctx, stop) = Context::background().with_cancel();
        let (done, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
        scope(|s| {
            s.go(|| {
                listener.set_context(Some(&ctx));
                while let Ok((tcp, _)) = listener.accept() {
                    let acceptor = &acceptor;
                    s.go(move || echo(&acceptor.accept(tcp).unwrap()).unwrap());
                }
            });
            let reloader = s.go(|| {
                let mut reloads = 0;
                while !done.load(Ordering::Relaxed) {
                    acceptor.reload([identities[reloads % identities.len()].clone()]).unwrap();
                    reloads += 1;
                    yield_now();
                }
                reloads
            });
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    s.go(|| {
                        let connector = authority.connector();
                        let mut last = None;
                        for _ in 0..EACH {
                            let tcp = TcpStream::connect(addr).unwrap();
                            let stream = connector.connect("localhost", tcp).unwrap();
                            (&stream).write_all(b"ping").unwrap();
                            stream.shutdown().unwrap();
                            assert_eq!(std::io::read_to_string(&stream).unwrap(), "ping");
                            let certificates = stream.peer_certificates().map(<[_]>::to_vec);
                            if last != certificates {
                                seen.fetch_add(1, Ordering::Relaxed);
                            }
                            last = certificates;
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().unwrap());
            done.store(true, Ordering::Relaxed);
            assert!(reloader.join().unwrap() > identities.len());
            stop.cancel();
        });
        assert!(seen.into_inner() > CLIENTS, "clients saw new certificates");
    });
}
