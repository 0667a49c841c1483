//! The error of an `https` URL if the crate is built without its feature `tls`.

use std::error::Error as _;
use std::io;
use std::net::TcpListener;

use goby_http::get;

use crate::support::{background, with_workers, words};

#[test]
fn an_https_url_is_refused_before_anything_is_sent() {
    with_workers(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let error = get(&background(), format!("https://{}/", listener.local_addr().unwrap())).unwrap_err();
        assert!(error.is_tls() && !error.is_connect());
        assert_eq!(words(&error), "negotiating TLS with 127.0.0.1 failed");
        let source = error.source().unwrap();
        assert_eq!(source.to_string(), "goby-http was built without its feature `tls`");
        assert_eq!(source.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::Unsupported);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "it has connected");
    });
}
