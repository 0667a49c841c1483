//! Idle connections rest without a goroutine, and are served again when a request comes.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use goby::net::TcpStream;
use goby::{Runtime, chan, go, now, num_goroutines, scope};
use goby_http::{Client, Request, Response};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Site, background, pause, read_head, wait_until, with_workers};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn connect(site: &Site) -> TcpStream {
    TcpStream::connect(site.addr()).unwrap()
}

/// Makes a request and reads the answer `hello`.
fn ask(mut stream: &TcpStream) {
    stream.write_all(GET).unwrap();
    answered(stream);
}

fn answered(mut stream: &TcpStream) {
    let head = read_head(stream);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head:?}");
    let mut body = [0; 5];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"hello");
}

#[test]
fn resting_connections_have_no_goroutine_and_answer() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let before = num_goroutines();
        ask(&connect(&site));
        wait_until("the first connection to end", || site.open() == 0 && num_goroutines() == before);
        let streams: Vec<_> = (0..50).map(|_| connect(&site)).collect();
        // One has never sent anything.
        let silent = connect(&site);
        for _ in 0..2 {
            streams.iter().for_each(ask);
            wait_until("the connections to rest", || num_goroutines() == before);
            assert_eq!(site.open(), 51);
        }
        ask(&silent);
        assert_eq!(site.connections(), 52);
        // Several requests at once.
        for mut stream in &streams {
            stream.write_all(&GET.repeat(3)).unwrap();
        }
        for stream in &streams {
            (0..3).for_each(|_| answered(stream));
        }
        assert_eq!(site.connections(), 52);
    });
}

/// Calls `check` with connections that rest.
fn resting(set_up: fn(goby_http::Server) -> goby_http::Server, check: impl Fn(Site, [TcpStream; 3]) + Send + Sync) {
    with_workers(|| {
        let site = Site::start_with(set_up, |_: Request| "hello");
        let before = num_goroutines();
        ask(&connect(&site));
        wait_until("the first connection to end", || site.open() == 0 && num_goroutines() == before);
        let streams = [(); 3].map(|()| connect(&site));
        streams.iter().for_each(ask);
        wait_until("the connections to rest", || num_goroutines() == before);
        check(site, streams);
    });
}

#[test]
fn one_that_the_client_closes_ends() {
    resting(
        |server| server,
        |site, streams| {
            drop(streams);
            wait_until("the connections to end", || site.open() == 0);
        },
    );
}

#[test]
fn a_stopping_server_closes_them() {
    resting(
        |server| server,
        |mut site, streams| {
            site.stop();
            site.join();
            for mut stream in streams {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
        },
    );
}

#[test]
fn a_closing_server_closes_them() {
    resting(
        |server| server,
        |site, streams| {
            site.close();
            for mut stream in streams {
                assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
            }
            wait_until("the connections to end", || site.open() == 0);
        },
    );
}

#[test]
fn idle_time_goes_on_while_they_rest() {
    with_workers(|| {
        let timeout = Duration::from_millis(1500);
        let site = Site::start_with(|server| server.idle_timeout(timeout), |_: Request| "hello");
        let mut stream = connect(&site);
        ask(&stream);
        let start = now();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let waited = start.elapsed();
        assert!((timeout.mul_f64(0.8)..timeout * 10).contains(&waited), "{waited:?}");
    });
}

/// Part of the next head came with the last request: it is neither lost nor does it count as idle.
#[test]
fn the_beginning_of_a_head_is_kept() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let mut stream = connect(&site);
        for _ in 0..2 {
            stream.write_all(&[GET, &GET[..10]].concat()).unwrap();
            answered(&stream);
            // Past the time after which it would rest.
            pause(Duration::from_millis(1300));
            stream.write_all(&GET[10..]).unwrap();
            answered(&stream);
        }
    });
}

/// A goroutine reads the body when the handler has returned: the connection is not idle.
#[test]
fn a_body_that_comes_late_is_no_idle_connection() {
    with_workers(|| {
        let (text, texts) = chan::bounded(1);
        let site = Site::start(move |request: Request| {
            let text = text.clone();
            go(move || text.send(request.text()).unwrap());
            "hello"
        });
        let mut stream = connect(&site);
        stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").unwrap();
        answered(&stream);
        pause(Duration::from_millis(1300));
        stream.write_all(b"body").unwrap();
        assert_eq!(texts.recv().unwrap().unwrap(), "body");
    });
}

/// The runtime has as many goroutines as it may have when the request comes: it waits.
#[test]
fn a_request_waits_for_a_goroutine() {
    let runtime = Runtime::builder().workers(1).max_goroutines(3).build().unwrap();
    runtime.run(|| {
        let site = Site::start(|_: Request| "hello");
        let stream = connect(&site);
        ask(&stream);
        wait_until("the connection to rest", || num_goroutines() == 2);
        let (release, released) = chan::bounded::<()>(0);
        let other = go(move || released.recv().is_err());
        (&stream).write_all(GET).unwrap();
        stream.set_read_deadline(Some(now() + Duration::from_millis(50)));
        assert_eq!(read_head(&stream), "");
        stream.set_read_deadline(None);
        release.close();
        other.join().unwrap();
        answered(&stream);
    });
}

/// How many descriptors this process may have.
fn descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // An error leaves it as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    usize::try_from(getrlimit(Resource::Nofile).current.or(current).unwrap_or(u64::MAX)).unwrap_or(usize::MAX)
}

#[test]
fn many_idle_connections_beside_load() {
    let wanted = if cfg!(debug_assertions) { 500 } else { 8_000 };
    // Both ends are here, and so are other tests.
    let n = wanted.min(descriptors().saturating_sub(1000) / 3);
    assert!(n >= 100, "too few descriptors");
    with_workers(|| {
        let site = Site::start(|request: Request| -> Response {
            match request.path() {
                "/" => "hello".into(),
                path => path.to_owned().into(),
            }
        });
        let idle: Vec<_> = (0..n).map(|_| connect(&site)).collect();
        idle.iter().for_each(ask);
        let (over, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        scope(|s| {
            for worker in 0..8 {
                let (over, requests, site) = (over.clone(), requests.clone(), &site);
                s.go(move || {
                    let client = Client::new();
                    for n in 0.. {
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                        let path = format!("/{worker}/{n}");
                        let text = client.get(&background(), site.url(&path)).unwrap().text().unwrap();
                        assert_eq!(text, path);
                        requests.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // The clients, their servers and a few more.
            wait_until("the idle connections to rest", || num_goroutines() < 60);
            idle.iter().for_each(ask);
            over.store(true, Ordering::Relaxed);
        });
        assert!(requests.load(Ordering::Relaxed) > 0);
        assert!(site.connections() >= n);
    });
}
