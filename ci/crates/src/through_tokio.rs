//! Futures that need tokio's reactor, by `goby_tokio::block_on`, each from 1,000 goroutines of one
//! worker against a real server.

use std::time::Duration;

use futures_util::StreamExt;
use goby_tokio::{Entered, block_on, spawn};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answer;
use tonic_health::pb::health_client::HealthClient;

use crate::servers::{self, Folder};

/// How long a goroutine may wait for one of a pool's connections, behind the 999 others.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs this in 1,000 goroutines at once, numbered from 0.
fn thousand(f: impl Fn(i64) + Send + Sync) {
    let f = &f;
    goby::scope(|scope| {
        for n in 0..1000 {
            scope.go(move || f(n));
        }
    });
}

#[goby::test(workers = 1)]
fn tokio_time_and_net() {
    use tokio::net::{TcpListener, TcpStream};
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let accepts = spawn(async move {
        for _ in 0..1000 {
            listener.accept().await.unwrap();
        }
    });
    thousand(|_| {
        block_on(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            TcpStream::connect(addr).await.unwrap();
        })
    });
    accepts.join().unwrap();
}

#[goby::test(workers = 1)]
fn reqwest() {
    let server = goby::blocking(servers::nginx);
    let client = reqwest::Client::new();
    thousand(|n| {
        let url = format!("http://{}/{n}", server.addr);
        let response = block_on(client.get(url).send()).unwrap();
        assert_eq!(response.status(), 200);
        // The body is another future, which waits for the same connection.
        assert_eq!(block_on(response.text()).unwrap(), n.to_string());
    });
}

#[goby::test(workers = 1)]
fn sqlx_sqlite() {
    let folder = Folder::new();
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("words.db"))
        .create_if_missing(true)
        .busy_timeout(PATIENCE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off);
    let pool =
        block_on(SqlitePoolOptions::new().max_connections(4).acquire_timeout(PATIENCE).connect_with(options)).unwrap();
    block_on(sqlx::query("CREATE TABLE numbers (n INTEGER)").execute(&pool)).unwrap();
    thousand(|n| {
        block_on(sqlx::query("INSERT INTO numbers VALUES (?)").bind(n).execute(&pool)).unwrap();
    });
    let sum: i64 = block_on(sqlx::query_scalar("SELECT SUM(n) FROM numbers").fetch_one(&pool)).unwrap();
    assert_eq!(sum, 499_500);
    block_on(pool.close());
}

#[goby::test(workers = 1)]
fn sqlx_postgres() {
    let server = goby::blocking(servers::postgres);
    let options =
        PgConnectOptions::new().host("127.0.0.1").port(server.addr.port()).username("postgres").database("postgres");
    let pool =
        block_on(PgPoolOptions::new().max_connections(20).acquire_timeout(PATIENCE).connect_with(options)).unwrap();
    block_on(sqlx::query("CREATE TABLE numbers (n BIGINT)").execute(&pool)).unwrap();
    thousand(|n| {
        // A transaction that reaches over several calls.
        let mut transaction = Entered::new(block_on(pool.begin()).unwrap());
        block_on(sqlx::query("INSERT INTO numbers VALUES ($1)").bind(n).execute(&mut **transaction)).unwrap();
        // Dropped, it goes back to the pool by a task of tokio's.
        if n % 2 == 0 {
            block_on(Entered::into_inner(transaction).commit()).unwrap();
        }
    });
    // What ends early is dropped on the way, and the error or the panic is seen.
    let fails = || -> Result<(), sqlx::Error> {
        let mut transaction = Entered::new(block_on(pool.begin())?);
        block_on(sqlx::query("SELECT nonsense").execute(&mut **transaction))?;
        block_on(Entered::into_inner(transaction).commit())
    };
    assert!(fails().unwrap_err().to_string().contains("nonsense"));
    let panics = goby::go({
        let pool = pool.clone();
        move || {
            let _connection = Entered::new(block_on(pool.acquire()).unwrap());
            panic!("in the middle of something");
        }
    });
    assert!(panics.join().unwrap_err().to_string().contains("in the middle of something"));
    let (count, sum): (i64, i64) =
        block_on(sqlx::query_as("SELECT COUNT(*), SUM(n)::int8 FROM numbers").fetch_one(&pool)).unwrap();
    assert_eq!((count, sum), (500, 249_500));
    block_on(pool.close());
}

#[goby::test(workers = 1)]
fn redis_async() {
    use redis::AsyncCommands;
    let server = goby::blocking(servers::redis);
    let client = redis::Client::open(format!("redis://{}/", server.addr)).unwrap();
    // One connection, whose commands go out together.
    let connection = block_on(client.get_multiplexed_async_connection()).unwrap();
    thousand(|n| {
        let mut connection = connection.clone();
        let _: () = block_on(connection.set(format!("square:{n}"), n * n)).unwrap();
        let _: i64 = block_on(connection.incr("sum", n)).unwrap();
        let square: i64 = block_on(connection.get(format!("square:{n}"))).unwrap();
        assert_eq!(square, n * n);
    });
    let sum: i64 = block_on(connection.clone().get("sum")).unwrap();
    assert_eq!(sum, 499_500);
}

#[goby::test(workers = 1)]
fn tonic() {
    use tokio::net::TcpListener;
    let (reporter, health) = tonic_health::server::health_reporter();
    block_on(reporter.set_service_status("goby", ServingStatus::Serving));
    let listener = block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let addr = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder().add_service(health);
    // tonic's own server runs on tokio.
    let serving = goby_tokio::handle().spawn(server.serve_with_incoming(incoming));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).unwrap();
    let channel = block_on(endpoint.connect()).unwrap();
    thousand(|_| {
        let mut client = HealthClient::new(channel.clone());
        let request = HealthCheckRequest { service: "goby".into() };
        let answer = block_on(client.check(request)).unwrap().into_inner();
        assert_eq!(answer.status(), Answer::Serving);
    });
    serving.abort();
}

#[goby::test(workers = 1)]
fn async_nats() {
    let server = goby::blocking(servers::nats);
    let client = block_on(async_nats::connect(server.addr.to_string())).unwrap();
    let mut requests = block_on(client.subscribe("double")).unwrap();
    let responder = spawn({
        let client = client.clone();
        async move {
            while let Some(request) = requests.next().await {
                let n: i64 = std::str::from_utf8(&request.payload).unwrap().parse().unwrap();
                client.publish(request.reply.unwrap(), (2 * n).to_string().into()).await.unwrap();
            }
        }
    });
    block_on(client.flush()).unwrap();
    thousand(|n| {
        let answer = block_on(client.request("double", n.to_string().into())).unwrap();
        assert_eq!(answer.payload, (2 * n).to_string());
    });
    block_on(client.drain()).unwrap();
    responder.join().unwrap();
}
