//! Content codings: both ways, beside curl and the programs that know them.

use std::io::{self, Read, Write};

use goby::chan;
use goby::net::TcpStream;
use goby_http::encoding::{Coding, Decoder, compress, decompress};
use goby_http::{Body, Client, Request, Response, Router, StatusCode};

#[cfg(feature = "gzip")]
use crate::support::curl;
use crate::support::{Site, background, read_head, with_workers};

fn text() -> String {
    (0..2000).map(|i| format!("line {i} of a text that goes on and on\n")).collect()
}

/// Serves `handler` behind the middleware.
fn site<R: Into<Response>>(handler: impl Fn(Request) -> R + Send + Sync + 'static) -> Site {
    Site::start(Router::new().fallback(handler).with(compress))
}

fn ask(site: &Site, accept: &str) -> Response {
    let request = http::Request::get(site.url("/")).header("accept-encoding", accept).body(Body::empty()).unwrap();
    Client::new().request(&background(), request).unwrap()
}

/// Takes the coding off that the response says it has.
fn decode(response: Response) -> Result<String, goby_http::Error> {
    let name = response.headers()["content-encoding"].to_str().unwrap();
    let coding = Coding::by_name(name).unwrap();
    Body::from(Decoder::new(coding, response.into_body())).text()
}

#[test]
fn a_body_at_hand_is_compressed_and_has_a_length() {
    with_workers(|| {
        let site = site(|_| text());
        for coding in Coding::ALL {
            let response = ask(&site, coding.name());
            assert_eq!(response.headers()["content-encoding"], coding.name());
            assert_eq!(response.headers()["vary"], "accept-encoding");
            assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
            assert!(response.content_length().unwrap() < text().len() as u64 / 4);
            assert_eq!(decode(response).unwrap(), text());
        }
        let plain = ask(&site, "identity");
        assert!(!plain.headers().contains_key("content-encoding"));
        assert_eq!(plain.headers()["vary"], "accept-encoding");
        assert_eq!(plain.text().unwrap(), text());
    });
}

#[test]
fn a_streamed_body_is_compressed_as_it_is_sent() {
    with_workers(|| {
        let sized = |_: Request| Body::from_sized_reader(io::Cursor::new(text()), text().len() as u64);
        let claimed = |_: Request| {
            let body = Body::from_reader(io::Cursor::new(text()));
            Response::new(body).with_header("content-length", text().len().to_string())
        };
        let sites = [site(sized), site(claimed), site(|_| Body::from_reader(io::Cursor::new(text())))];
        for site in &sites {
            for coding in Coding::ALL {
                let response = ask(site, coding.name());
                assert_eq!(response.content_length(), None);
                assert_eq!(decode(response).unwrap(), text());
            }
        }
    });
}

#[test]
fn pieces_are_flushed_through() {
    with_workers(|| {
        for coding in Coding::ALL {
            let (go_on, wait) = chan::bounded::<()>(0);
            let site = site(move |request: Request| {
                let wait = wait.clone();
                goby_http::sse::stream(&request, move |events| {
                    for i in 0..5 {
                        events.send(&goby_http::sse::Event::new().data(format!("{i}")))?;
                        wait.recv().map_err(io::Error::other)?;
                    }
                    Ok(())
                })
            });
            let response = ask(&site, coding.name());
            assert_eq!(response.headers()["content-type"], "text/event-stream");
            let mut decoder = Decoder::new(*coding, response.into_body());
            for i in 0..5 {
                let mut event = [0; 9];
                decoder.read_exact(&mut event).unwrap();
                assert_eq!(event, format!("data: {i}\n\n").as_bytes(), "{coding:?}");
                go_on.send(()).unwrap();
            }
            assert_eq!(decoder.read(&mut [0; 10]).unwrap(), 0);
        }
    });
}

/// A client that leaves ends what is behind the coder, too.
#[test]
fn a_client_that_leaves_ends_a_compressed_stream() {
    with_workers(|| {
        let (ended, end) = chan::bounded(1);
        let site = site(move |request: Request| {
            let ended = ended.clone();
            Body::from_writer(request.context(), move |out| {
                // The client may have left by now.
                let _ = out.send(text());
                let _ = out.context().done().recv();
                ended.send(()).map_err(io::Error::other)
            })
        });
        let mut stream = TcpStream::connect(site.addr()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: *\r\n\r\n").unwrap();
        assert!(read_head(&stream).contains("content-encoding: "));
        drop(stream);
        end.recv_timeout(crate::support::PATIENCE).unwrap();
    });
}

#[test]
fn what_gains_nothing_stays_as_it_is() {
    with_workers(|| {
        let long = || Response::new(text());
        let noise: Vec<u8> = std::iter::successors(Some(1u64), |&x| {
            let x = x ^ (x << 13);
            let x = x ^ (x >> 7);
            Some(x ^ (x << 17))
        })
        .flat_map(u64::to_le_bytes)
        .take(2000)
        .collect();
        let site = Site::start(
            Router::new()
                .get("/short", |_: Request| "a".repeat(255))
                .get("/noise", move |_: Request| noise.clone())
                .get("/image", move |_: Request| long().with_header("content-type", "image/png"))
                .get("/coded", move |_: Request| long().with_header("content-encoding", "br"))
                .get("/part", move |_: Request| long().with_status(StatusCode::PARTIAL_CONTENT))
                .get("/fixed", move |_: Request| long().with_header("cache-control", "public, no-transform"))
                .get("/svg", move |_: Request| long().with_header("content-type", "image/svg+xml"))
                .get("/tagged", move |_: Request| long().with_header("etag", "\"1\"").with_header("vary", "cookie"))
                .with(compress),
        );
        let ask = |path: &str| {
            let request =
                http::Request::get(site.url(path)).header("accept-encoding", "*").body(Body::empty()).unwrap();
            Client::new().request(&background(), request).unwrap()
        };
        for path in ["/short", "/noise", "/image", "/part", "/fixed"] {
            assert!(!ask(path).headers().contains_key("content-encoding"), "{path}");
        }
        assert_eq!(ask("/coded").headers()["content-encoding"], "br");
        assert_eq!(ask("/coded").text().unwrap(), text());
        assert!(ask("/svg").headers().contains_key("content-encoding"));
        let tagged = ask("/tagged");
        assert_eq!(tagged.headers()["etag"], "W/\"1\"");
        let vary: Vec<_> = tagged.headers().get_all("vary").iter().collect();
        assert_eq!(vary, ["cookie", "accept-encoding"]);
    });
}

#[test]
fn a_head_is_that_of_the_get() {
    with_workers(|| {
        let site = site(|_| text());
        let request = http::Request::head(site.url("/")).header("accept-encoding", "gzip").body(Body::empty()).unwrap();
        let response = Client::new().request(&background(), request).unwrap();
        #[cfg(feature = "gzip")]
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(response.bytes().unwrap(), "");
    });
}

/// What curl can decode depends on how it was built.
#[cfg(feature = "gzip")]
#[test]
fn curl_decodes_it() {
    with_workers(|| {
        let site = site(|_| text());
        let answer = curl(&["--compressed", "-D", "-", &site.url("/")]);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\ncontent-encoding: "), "{head}");
        assert_eq!(body, text());
    });
}

/// Answers with the length of the body.
fn measure(mut request: Request) -> Result<String, io::Error> {
    io::copy(&mut request, &mut io::sink()).map(|n| n.to_string())
}

fn upload(site: &Site, coding: &str, body: Body) -> Response {
    let request = http::Request::post(site.url("/")).header("content-encoding", coding).body(body).unwrap();
    Client::new().request(&background(), request).unwrap()
}

/// Compresses by the middleware itself.
fn coded(coding: Coding, text: String) -> Vec<u8> {
    let site = site(move |_| text.clone());
    let response = ask(&site, coding.name());
    assert_eq!(response.headers()["content-encoding"], coding.name());
    response.bytes().unwrap().to_vec()
}

#[test]
fn bodies_of_requests_are_decoded() {
    with_workers(|| {
        const LIMIT: u64 = 1 << 20;
        let echo = |request: Request| {
            assert!(!request.headers().contains_key("content-encoding"));
            assert!(!request.headers().contains_key("content-length"));
            request.into_body()
        };
        let site = Site::start(Router::new().fallback(echo).with(decompress(LIMIT)));
        for &coding in Coding::ALL {
            let body = coded(coding, text());
            assert_eq!(upload(&site, coding.name(), body.clone().into()).text().unwrap(), text());
            // In small pieces.
            let pieces: Vec<_> = body.chunks(7).map(<[u8]>::to_vec).collect();
            assert_eq!(upload(&site, coding.name(), Body::from_chunks(pieces)).text().unwrap(), text());
        }
        // One coding over another.
        let (&first, &last) = (Coding::ALL.first().unwrap(), Coding::ALL.last().unwrap());
        if first != last {
            let site_of_coded = coded(first, text());
            let twice = Site::start(Router::new().fallback(move |_: Request| site_of_coded.clone()).with(compress));
            let body = ask(&twice, last.name()).bytes().unwrap();
            let is_coded = body.len() as u64 != coded(first, text()).len() as u64;
            let codings = if is_coded { format!("{}, {}", first.name(), last.name()) } else { first.name().to_owned() };
            assert_eq!(upload(&site, &codings, body.into()).text().unwrap(), text());
        }
        let refused = upload(&site, "compress", "x".into());
        assert_eq!(
            (refused.status(), &refused.headers()["accept-encoding"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &Coding::ACCEPT.parse().unwrap())
        );
        assert_eq!(upload(&site, "gzip, gzip, gzip, gzip, gzip", "x".into()).status(), 415);
    });
}

#[test]
fn what_is_not_coded_so_is_refused() {
    with_workers(|| {
        let site = Site::start(Router::new().fallback(measure).with(decompress(1 << 30)));
        for &coding in Coding::ALL {
            let whole = coded(coding, text());
            let mut turned = whole.clone();
            let middle = turned.len() / 2;
            turned[middle..middle + 20].iter_mut().for_each(|byte| *byte ^= 0xff);
            let cases = [
                ("noise", b"this is no coding at all, whatever it be".to_vec()),
                ("cut", whole[..whole.len() / 2].to_vec()),
                ("cut late", whole[..whole.len() - 1].to_vec()),
                ("more", [&whole[..], b"and more"].concat()),
            ];
            for (what, body) in cases {
                assert_eq!(upload(&site, coding.name(), body.into()).status(), 400, "{coding:?} {what}");
            }
            // Brotli and zstd as written here have no checksum: what comes out may be any bytes.
            if coding.name() == "gzip" {
                assert_eq!(upload(&site, coding.name(), turned.into()).status(), 400);
            }
        }
    });
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    with_workers(|| {
        const LIMIT: u64 = 100_000;
        let site = Site::start(Router::new().fallback(measure).with(decompress(LIMIT)));
        for &coding in Coding::ALL {
            let bomb = coded(coding, "0".repeat(10 << 20));
            assert!(bomb.len() < 20_000, "{coding:?} {}", bomb.len());
            let refused = upload(&site, coding.name(), bomb.into());
            assert_eq!(
                (refused.status(), refused.text().unwrap()),
                (StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 100000 bytes".to_owned())
            );
            let exact = coded(coding, "0".repeat(LIMIT as usize));
            assert_eq!(upload(&site, coding.name(), exact.into()).text().unwrap(), LIMIT.to_string());
        }
    });
}
