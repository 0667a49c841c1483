//! Which requests share a connection, and what happens when it turns out to be closed.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use goby::{chan, num_goroutines, scope};
use goby_http::{Body, Client, ClientBuilder, Request, Response};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::support::{
    PATIENCE, Script, Site, answer, background, read_head, read_to_close, rerun_alone, wait_until, with_workers, words,
};

#[test]
fn requests_one_after_the_other_share_a_connection() {
    with_workers(|| {
        let site = Site::start(|request: Request| match request.path() {
            "/empty" => Response::new(()),
            "/streamed" => Response::new(Body::from_chunks(["a", "b", "c"])),
            "/large" => Response::new(vec![b'x'; 1 << 20]),
            _ => Response::from("hello"),
        });
        let client = Client::new();
        for _ in 0..10 {
            for path in ["/", "/empty", "/streamed", "/large"] {
                client.get(&background(), site.url(path)).unwrap().bytes().unwrap();
            }
            assert_eq!(client.post(&background(), site.url("/"), "body").unwrap().text().unwrap(), "hello");
            let head = http::Request::head(site.url("/large")).body(Body::empty()).unwrap();
            let head = client.request(&background(), head).unwrap();
            assert_eq!(head.headers()["content-length"], (1 << 20).to_string());
            assert_eq!(head.bytes().unwrap(), "");
        }
        assert_eq!(site.connections(), 1);
    });
}

#[test]
fn a_response_without_a_body_frees_its_connection_at_once() {
    with_workers(|| {
        let site = Site::start(|_: Request| ());
        let client = Client::new();
        let first = client.get(&background(), site.url("/")).unwrap();
        let second = client.get(&background(), site.url("/")).unwrap();
        assert_eq!(site.connections(), 1);
        drop((first, second));
    });
}

#[test]
fn a_response_under_way_keeps_its_connection() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let client = Client::new();
        let first = client.get(&background(), site.url("/")).unwrap();
        let second = client.get(&background(), site.url("/")).unwrap();
        assert_eq!(site.connections(), 2);
        assert_eq!(first.text().unwrap(), "hello");
        assert_eq!(second.text().unwrap(), "hello");
    });
}

#[test]
fn a_response_dropped_early_closes_its_connection() {
    with_workers(|| {
        let (closed, closes) = chan::unbounded();
        let script = Script::start(move |_, mut stream| {
            read_head(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").unwrap();
            read_to_close(&stream);
            closed.send(()).unwrap();
        });
        let client = Client::new();
        let response = client.get(&background(), script.url("/")).unwrap();
        assert_eq!(response.content_length(), Some(10));
        drop(response);
        closes.recv().unwrap();
    });
}

#[test]
fn a_server_that_says_so_gets_a_connection_for_each_request() {
    with_workers(|| {
        let site = Site::start_with(|server| server.keep_alive(false), |_: Request| "hello");
        let client = Client::new();
        for n in 1..=3 {
            let response = client.get(&background(), site.url("/")).unwrap();
            assert_eq!(response.headers()["connection"], "close");
            assert_eq!(response.text().unwrap(), "hello");
            assert_eq!(site.connections(), n);
        }
    });
}

/// The server closes the connection after each response, without notice. The next request finds
/// that, and takes another connection.
#[test]
fn a_connection_closed_while_idle_costs_no_request() {
    with_workers(|| {
        let (closed, closes) = chan::bounded(0);
        let script = Script::start(move |_, stream| {
            answer(&stream, "hello");
            drop(stream);
            closed.send(()).unwrap();
        });
        let client = Client::new();
        for method in ["GET", "POST", "DELETE", "GET"] {
            for body in [Body::empty(), Body::from_reader(&b""[..])] {
                let request = http::Request::builder().method(method).uri(script.url("/")).body(body).unwrap();
                assert_eq!(client.request(&background(), request).unwrap().text().unwrap(), "hello");
                closes.recv().unwrap();
            }
        }
    });
}

/// The server closes the connection upon the second request. Only a request that may be made twice
/// is made again.
#[test]
fn a_connection_closed_by_the_request_costs_those_that_may_not_be_repeated() {
    with_workers(|| {
        let script = Script::start(move |n, stream| {
            answer(&stream, &format!("connection {n}"));
            read_head(&stream);
        });
        let get = |client: &Client| client.get(&background(), script.url("/")).unwrap().text().unwrap();
        let client = Client::new();
        assert_eq!(get(&client), "connection 0");
        assert_eq!(get(&client), "connection 1");
        let error = client.post(&background(), script.url("/"), "body").unwrap_err();
        assert!(error.is_request() && !error.is_connect(), "{error:?}");
        assert_eq!(words(&error), "no response");
        assert_eq!(get(&client), "connection 2");
        let request = http::Request::post(script.url("/")).header("idempotency-key", "7").body(Body::from("body"));
        let answer = client.request(&background(), request.unwrap()).unwrap();
        assert_eq!(answer.text().unwrap(), "connection 3");
        // A first request on a connection is not made again.
        drop(client);
    });
}

#[test]
fn a_connection_closed_by_the_first_request_is_an_error() {
    with_workers(|| {
        let (seen, sees) = chan::unbounded();
        let script = Script::start(move |n, stream| {
            read_head(&stream);
            seen.send(n).unwrap();
        });
        let error = Client::new().get(&background(), script.url("/")).unwrap_err();
        assert!(error.is_request());
        drop(script);
        assert_eq!(sees.iter().collect::<Vec<_>>(), [0]);
    });
}

#[test]
fn c347_requests_wait_for_the_one_connection_that_is_allowed() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let client = Client::builder().max_connections_per_host(1).build().unwrap();
        let fetch = || assert_eq!(client.get(&background(), site.url("/")).unwrap().text().unwrap(), "hello");
        scope(|s| {
            for _ in 0..10 {
                s.go(fetch);
            }
        });
        assert_eq!(site.connections(), 1);
        client.close_idle();
        fetch();
        assert_eq!(site.connections(), 2);
    });
}

#[test]
fn a_connection_that_fails_makes_room_for_those_who_wait() {
    with_workers(|| {
        let script = Script::start(|n, stream| {
            if n % 2 == 0 {
                read_head(&stream);
            } else {
                answer(&stream, "hello");
            }
        });
        let client = Client::builder().max_connections_per_host(1).build().unwrap();
        let results = scope(|s| {
            let requests: Vec<_> = (0..20)
                .map(|_| s.go(|| client.post(&background(), script.url("/"), "body").and_then(Response::text)))
                .collect();
            requests.into_iter().map(|request| request.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(results.iter().any(Result::is_ok));
        for result in results {
            match result {
                Ok(text) => assert_eq!(text, "hello"),
                Err(error) => assert!(error.is_request(), "{error:?}"),
            }
        }
    });
}

#[test]
fn at_most_so_many_connections_are_kept() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let client = Client::builder().max_idle_per_host(1).build().unwrap();
        let two_at_once = || {
            let first = client.get(&background(), site.url("/")).unwrap();
            let second = client.get(&background(), site.url("/")).unwrap();
            (first.text().unwrap(), second.text().unwrap())
        };
        two_at_once();
        assert_eq!(site.connections(), 2);
        two_at_once();
        assert_eq!(site.connections(), 3);
    });
}

/// A client that resolves every name to this machine.
fn client_of_all_hosts(set_up: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    set_up(Client::builder()).resolver(|_| Ok(vec![Ipv4Addr::LOCALHOST.into()])).build().unwrap()
}

/// Fetches from the site by its name with this number, and returns how many connections the site
/// has had.
fn fetch_from(client: &Client, site: &Site, host: usize) -> usize {
    let url = format!("http://host{host}.example:{}/", site.addr().port());
    assert_eq!(client.get(&background(), url).unwrap().text().unwrap(), "hello");
    site.connections()
}

#[test]
fn at_most_so_many_connections_are_kept_over_all_hosts_and_the_oldest_is_closed_first() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let client = client_of_all_hosts(|builder| builder.max_idle(2));
        assert_eq!(fetch_from(&client, &site, 1), 1);
        assert_eq!(fetch_from(&client, &site, 2), 2);
        // By now this connection was used after the other one.
        assert_eq!(fetch_from(&client, &site, 1), 2);
        assert_eq!(fetch_from(&client, &site, 3), 3);
        assert_eq!(fetch_from(&client, &site, 1), 3);
        assert_eq!(fetch_from(&client, &site, 2), 4);
        let none = client_of_all_hosts(|builder| builder.max_idle(0));
        assert_eq!(fetch_from(&none, &site, 1), 5);
        assert_eq!(fetch_from(&none, &site, 1), 6);
    });
}

#[test]
fn a_client_remembers_no_more_hosts_than_it_has_connections_to() {
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let check = |client: Client| {
            for host in 0..110 {
                fetch_from(&client, &site, host);
            }
            let state = format!("{client:?}");
            assert!(state.contains("hosts: 100, idle: 100"), "{state}");
            client.close_idle();
            let state = format!("{client:?}");
            assert!(state.contains("hosts: 0, idle: 0"), "{state}");
        };
        check(client_of_all_hosts(|builder| builder));
        check(client_of_all_hosts(|builder| builder.max_connections_per_host(1)));
    });
}

/// A request that needs a connection gets one, though idle connections hold all descriptors.
#[test]
fn running_out_of_descriptors_closes_idle_connections() {
    if rerun_alone("connections::running_out_of_descriptors_closes_idle_connections").is_some() {
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).unwrap();
    with_workers(|| {
        let site = Site::start(|_: Request| "hello");
        let client = client_of_all_hosts(|builder| builder);
        for host in 0..5 {
            fetch_from(&client, &site, host);
        }
        let mut hogs = Vec::new();
        while let Ok(hog) = std::fs::File::open("/dev/null") {
            hogs.push(hog);
        }
        // The server is in this process, too, and has the other end of each connection that is
        // closed for the new one. If other code in the process takes that descriptor, the server
        // gets another.
        let (done, helper_done) = chan::bounded::<()>(0);
        let helper = goby::go(move || {
            while helper_done.recv_timeout(Duration::from_secs(1)).is_err_and(|error| error.is_timeout()) {
                hogs.pop();
            }
            hogs
        });
        for host in 5..15 {
            assert_eq!(fetch_from(&client, &site, host), host + 1);
        }
        drop(done);
        let mut hogs = helper.join().unwrap();
        // Without idle connections it is an error that says so, also where a name is looked up.
        client.close_idle();
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("http://{host}:{}/", site.addr().port());
            wait_until("the last descriptor to be gone", || {
                while let Ok(hog) = std::fs::File::open("/dev/null") {
                    hogs.push(hog);
                }
                // If the client gets one that was closed only now, there is none for the server,
                // which accepts the connection as soon as it has one: never, here.
                let (ctx, _cancel) = background().with_timeout(Duration::from_millis(100));
                Client::new().get(&ctx, &url).is_err_and(|error| error.is_out_of_descriptors())
            });
        }
        drop(hogs);
    });
}

#[test]
fn idle_connections_are_closed_in_time() {
    with_workers(|| {
        let (closed, closes) = chan::bounded(1);
        let script = Script::start(move |_, stream| {
            answer(&stream, "hello");
            read_to_close(&stream);
            closed.send(()).unwrap();
        });
        let client = Client::builder().idle_timeout(Duration::from_millis(5)).build().unwrap();
        client.get(&background(), script.url("/")).unwrap().text().unwrap();
        assert!(closes.recv_timeout(PATIENCE).is_ok());
    });
}

#[test]
fn the_connections_are_closed_with_the_client() {
    with_workers(|| {
        let (closed, closes) = chan::bounded(1);
        let script = Script::start(move |_, stream| {
            answer(&stream, "hello");
            read_to_close(&stream);
            closed.send(()).unwrap();
        });
        let client = Client::new();
        let response = client.get(&background(), script.url("/")).unwrap();
        drop(client);
        // The response outlives its client.
        assert_eq!(response.text().unwrap(), "hello");
        closes.recv().unwrap();
    });
}

#[test]
fn c351_many_requests_leave_no_goroutine() {
    with_workers(|| {
        let start = num_goroutines();
        let site = Site::start(|_: Request| "hello");
        let client = Client::new();
        scope(|s| {
            for _ in 0..25 {
                s.go(|| client.get(&background(), site.url("/")).unwrap().text().unwrap());
            }
        });
        client.close_idle();
        // The rest is the server's own goroutine.
        wait_until("the connections to end", || num_goroutines() <= start + 1);
    });
}
