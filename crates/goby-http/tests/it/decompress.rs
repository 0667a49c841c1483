//! Compressed responses that a client decodes.

use goby_http::encoding::{self, Coding};
use goby_http::{Client, Method, Request, Response, Router, StatusCode};

use crate::support::{Site, background, with_workers, words};

const LEN: usize = 1 << 20;

/// A megabyte that compresses to some kilobytes at most, in `coding`.
fn compressed(coding: Coding) -> Vec<u8> {
    let site =
        Site::start(Router::new().get("/", |_: Request| "0123456789abcdef".repeat(LEN / 16)).with(encoding::compress));
    let request = Client::new().prepare(Method::GET, site.url("/")).header("accept-encoding", coding.name());
    let response = request.send(&background()).unwrap();
    // What the caller has asked for comes as it is.
    assert_eq!(response.headers()["content-encoding"], coding.name());
    let bytes = response.bytes().unwrap();
    assert!(bytes.len() < LEN / 10, "{} {}", coding.name(), bytes.len());
    bytes.to_vec()
}

/// Serves `bytes` as a body of this coding: whole, or without its last bytes.
fn site(coding: &'static str, bytes: Vec<u8>) -> Site {
    Site::start(move |request: Request| {
        let bytes = match request.path() {
            "/truncated" => bytes[..bytes.len() - 5].to_vec(),
            "/garbage" => b"not compressed at all".to_vec(),
            "/none" => {
                return Response::from(()).with_status(StatusCode::NO_CONTENT).with_header("content-encoding", coding);
            }
            "/asked" => {
                let asked = request.headers().get("accept-encoding").map_or("-", |asked| asked.to_str().unwrap());
                return Response::new(asked.to_owned());
            }
            _ => bytes.clone(),
        };
        Response::new(bytes).with_header("content-encoding", coding)
    })
}

#[test]
fn a_compressed_body_is_decoded() {
    with_workers(|| {
        for &coding in Coding::ALL {
            let site = site(coding.name(), compressed(coding));
            let client = Client::new();
            for _ in 0..2 {
                let response = client.get(&background(), site.url("/")).unwrap();
                let headers = response.headers();
                assert!(!headers.contains_key("content-encoding") && !headers.contains_key("content-length"));
                assert_eq!(response.content_length(), None);
                let text = response.text().unwrap();
                assert!(text.len() == LEN && text.starts_with("0123456789abcdef0"), "{}", coding.name());
            }
            assert_eq!(site.connections(), 1);
        }
    });
}

#[test]
fn a_body_that_is_not_what_it_says_is_an_error() {
    with_workers(|| {
        for &coding in Coding::ALL {
            let site = site(coding.name(), compressed(coding));
            for path in ["/truncated", "/garbage"] {
                let response = Client::new().get(&background(), site.url(path)).unwrap();
                let error = response.bytes().unwrap_err();
                assert!(error.is_body() && error.url() == Some(&*site.url(path)), "{} {path} {error:?}", coding.name());
            }
        }
    });
}

#[test]
fn what_comes_out_is_limited() {
    with_workers(|| {
        for &coding in Coding::ALL {
            let site = site(coding.name(), compressed(coding));
            let get = |max: usize| {
                let client = Client::builder().max_body(max as u64).build().unwrap();
                client.get(&background(), site.url("/")).unwrap().bytes()
            };
            assert_eq!(get(LEN).unwrap().len(), LEN);
            let error = get(LEN - 1).unwrap_err();
            assert!(error.is_body());
            assert_eq!(words(&error), format!("body longer than {} bytes", LEN - 1));
        }
    });
}

#[test]
fn only_what_the_client_asks_for_is_decoded() {
    with_workers(|| {
        let site = site("gzip", compressed(Coding::Gzip));
        let asked = |client: &Client, header: Option<(&'static str, &'static str)>| {
            let request = client.prepare(Method::GET, site.url("/asked"));
            let request = match header {
                Some((name, value)) => request.header(name, value),
                None => request,
            };
            request.send(&background()).unwrap().text().unwrap()
        };
        let client = Client::new();
        assert_eq!(asked(&client, None), Coding::ACCEPT);
        assert_eq!(asked(&client, Some(("range", "bytes=0-9"))), "-");
        assert_eq!(asked(&client, Some(("accept-encoding", "identity"))), "identity");
        let plain = Client::builder().decompress(false).build().unwrap();
        assert_eq!(asked(&plain, None), "-");
        assert_eq!(plain.get(&background(), site.url("/")).unwrap().headers()["content-encoding"], "gzip");
        // Nothing to decode.
        let head = client.prepare(Method::HEAD, site.url("/")).send(&background()).unwrap();
        assert_eq!(head.headers()["content-encoding"], "gzip");
        assert!(head.headers().contains_key("content-length"));
        let none = client.get(&background(), site.url("/none")).unwrap();
        assert_eq!(none.headers()["content-encoding"], "gzip");
        assert_eq!(none.bytes().unwrap(), "");
    });
}

#[test]
fn an_unknown_coding_is_left_to_the_caller() {
    with_workers(|| {
        let site = site("compress", b"some bytes".to_vec());
        let response = Client::new().get(&background(), site.url("/")).unwrap();
        assert_eq!(response.headers()["content-encoding"], "compress");
        assert_eq!(response.headers()["content-length"], "10");
        assert_eq!(response.text().unwrap(), "some bytes");
    });
}
