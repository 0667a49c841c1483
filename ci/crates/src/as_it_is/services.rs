//! Services made for hyper, on goby's sockets by `goby_http::rt`: nothing here runs on tokio.

use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use goby::net::{TcpListener, TcpStream};
use goby::sync::WaitGroup;
use goby::{Context, block_on, block_on_ctx, chan, time};
use goby_http::rt::{Executor, Io, Timer};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::client::conn::http2;
use hyper::{Request, Version};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answer;
use tonic_health::pb::health_client::HealthClient;

/// Serves a router, a goroutine per connection, until `ctx` is done and all have ended.
fn serve(ctx: &Context, listener: &TcpListener, router: &Router) {
    let connections = WaitGroup::new();
    listener.set_context(Some(ctx));
    while let Ok((stream, _)) = listener.accept() {
        let (ctx, service) = (ctx.clone(), TowerToHyperService::new(router.clone()));
        connections.go(move || {
            let mut protocols = auto::Builder::new(Executor);
            protocols.http1().timer(Timer);
            protocols.http2().timer(Timer);
            let mut connection = pin!(protocols.serve_connection(Io::new(stream), service));
            let ended = block_on_ctx(&ctx, connection.as_mut()).unwrap_or_else(|_done| {
                connection.as_mut().graceful_shutdown();
                block_on(connection)
            });
            // An error means that the client has gone meanwhile. Clients check their answers.
            drop(ended);
        });
    }
    connections.wait();
}

/// Calls `client` with the address of a router that is being served.
fn with_server(router: Router, client: impl FnOnce(&str)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (ctx, cancel) = Context::background().with_cancel();
    goby::scope(|scope| {
        scope.go(|| serve(&ctx, &listener, &router));
        client(&addr);
        cancel.cancel();
    });
}

/// Makes a connection of HTTP/2, which a goroutine of its own drives.
fn connect<B>(addr: &str) -> http2::SendRequest<B>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = Io::new(TcpStream::connect(addr).unwrap());
    let (requests, connection) = block_on(http2::handshake(Executor, stream)).unwrap();
    goby::go(move || block_on(connection));
    requests
}

async fn echo(Path(n): Path<usize>, body: String) -> String {
    // Parks the goroutine of this request, or of its connection.
    time::sleep(Duration::from_millis(1));
    let (tx, rx) = chan::bounded(0);
    goby::go(move || tx.send(format!("{n} {body}")).unwrap());
    rx.recv().unwrap()
}

/// A thousand goroutines ask by HTTP/1.1, and as many by one connection of HTTP/2.
#[goby::test(workers = 1)]
fn axum_router() {
    let router = Router::new().route("/", get(async || "hello")).route("/echo/{n}", post(echo));
    with_server(router, |addr| {
        let client = goby_http::Client::new();
        let ctx = Context::background();
        assert_eq!(client.get(&ctx, format!("http://{addr}/")).unwrap().text().unwrap(), "hello");
        assert_eq!(client.get(&ctx, format!("http://{addr}/nothing")).unwrap().status(), 404);
        let requests = connect::<String>(addr);
        goby::scope(|scope| {
            for n in 0..1000 {
                let (ctx, client, requests) = (&ctx, &client, &requests);
                scope.go(move || {
                    let response = client.post(ctx, format!("http://{addr}/echo/{n}"), "by 1.1").unwrap();
                    assert_eq!(response.text().unwrap(), format!("{n} by 1.1"));
                });
                scope.go(move || {
                    let request = Request::post(format!("http://{addr}/echo/{n}")).body("by 2".to_owned()).unwrap();
                    let response = block_on(requests.clone().send_request(request)).unwrap();
                    assert_eq!(response.version(), Version::HTTP_2);
                    let body = block_on(response.into_body().collect()).unwrap().to_bytes();
                    assert_eq!(body, format!("{n} by 2"));
                });
            }
        });
    });
}

/// The server and the client are tonic's, without its transport.
#[goby::test(workers = 1)]
fn tonic_service() {
    let (reporter, health) = tonic_health::server::health_reporter();
    block_on(reporter.set_service_status("store", ServingStatus::NotServing));
    let router = tonic::service::Routes::new(health).prepare().into_axum_router();
    with_server(router, |addr| {
        let requests = connect(addr);
        let channel = tower::service_fn(move |request| requests.clone().send_request(request));
        let client = HealthClient::with_origin(channel, format!("http://{addr}").parse().unwrap());
        let check = |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            block_on(client.clone().check(request)).map(|response| response.into_inner().status())
        };
        assert_eq!(check("nobody").unwrap_err().code(), tonic::Code::NotFound);
        goby::scope(|scope| {
            for _ in 0..1000 {
                scope.go(|| assert_eq!(check("store").unwrap(), Answer::NotServing));
            }
        });
        // A stream of answers: each comes when there is something new.
        let request = HealthCheckRequest { service: "store".to_owned() };
        let mut watched = block_on(client.clone().watch(request)).unwrap().into_inner();
        let mut next = || block_on(watched.message()).unwrap().unwrap().status();
        assert_eq!(next(), Answer::NotServing);
        block_on(reporter.set_service_status("store", ServingStatus::Serving));
        assert_eq!(next(), Answer::Serving);
    });
}
