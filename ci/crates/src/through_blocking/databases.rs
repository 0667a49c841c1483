//! Crates that talk to servers and block their thread, from a thousand goroutines each, with a pool
//! of few connections.

use std::time::Duration;

use goby::pool::Pool;
use goby::sync::Semaphore;
use goby::{Context, blocking};
use redis::{Commands as _, ConnectionLike as _};

use crate::servers::{self, Folder};

/// How many connections a thousand goroutines share.
const CONNECTIONS: usize = 4;

fn a_thousand_goroutines(f: impl Fn(i32) + Send + Sync) {
    goby::scope(|scope| {
        let f = &f;
        for n in 0..1000 {
            scope.go(move || f(n));
        }
    });
}

/// The server's goroutines are on the worker of those that ask.
#[goby::test(workers = 1)]
fn ureq() {
    let server = goby_http::Server::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr());
    let (ctx, cancel) = Context::background().with_cancel();
    goby::scope(|scope| {
        scope.go(|| {
            server.serve_ctx(&ctx, |request: goby_http::Request| {
                let path = request.path().to_owned();
                format!("{path} {}", request.text().unwrap())
            })
        });
        // It has a pool of its own, which has no bound.
        let (agent, at_most) = (ureq::agent(), Semaphore::new(CONNECTIONS));
        a_thousand_goroutines(|n| {
            let _permit = at_most.take(1);
            let text =
                blocking(|| agent.post(format!("{url}{n}")).send(format!("of {n}"))?.body_mut().read_to_string());
            assert_eq!(text.unwrap(), format!("/{n} of {n}"));
        });
        let missing = blocking(|| agent.get("http://127.0.0.1:1/").call());
        assert!(missing.is_err());
        drop(agent);
        cancel.cancel();
    });
}

#[goby::test(workers = 1)]
fn rusqlite() {
    let folder = Folder::new();
    let path = folder.path().join("store.db");
    let connect = move || {
        blocking(|| {
            let connection = rusqlite::Connection::open(&path)?;
            let settings = "PRAGMA journal_mode = wal; PRAGMA synchronous = off; PRAGMA busy_timeout = 60000";
            connection.execute_batch(settings).map(|()| connection)
        })
    };
    let pool = Pool::builder(connect).max_size(CONNECTIONS).build();
    let create = "CREATE TABLE numbers (n INTEGER PRIMARY KEY)";
    pool.get().unwrap().blocking(|connection| connection.execute_batch(create)).unwrap();
    a_thousand_goroutines(|n| {
        let mut connection = pool.get().unwrap();
        let insert = |connection: &mut rusqlite::Connection| connection.execute("INSERT INTO numbers VALUES (?1)", [n]);
        assert_eq!(connection.blocking(insert).unwrap(), 1);
    });
    let count = |connection: &mut rusqlite::Connection| {
        connection.query_row("SELECT COUNT(*), SUM(n) FROM numbers", [], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    assert_eq!(pool.get().unwrap().blocking(count).unwrap(), (1000, 499_500));
    check_bounds(&pool);
    // What a transaction leaves that a panic ended is not there.
    let panics = goby::go({
        let pool = pool.clone();
        move || {
            pool.get().unwrap().blocking(|connection| {
                let transaction = connection.transaction().unwrap();
                transaction.execute("DELETE FROM numbers", []).unwrap();
                panic!("in the middle of something");
            })
        }
    });
    assert!(panics.join().is_err());
    assert_eq!(pool.get().unwrap().blocking(count).unwrap(), (1000, 499_500));
    assert_eq!(pool.stats().broken_closed, 1);
}

#[goby::test(workers = 1)]
fn postgres() {
    let server = blocking(servers::postgres);
    let url = format!("postgres://postgres@{}/postgres", server.addr);
    let pool = Pool::builder(move || blocking(|| postgres::Client::connect(&url, postgres::NoTls)))
        .max_size(CONNECTIONS)
        .check(|client| blocking(|| client.is_valid(Duration::from_secs(60)).is_ok()))
        // It says goodbye to the server.
        .on_close(|client| blocking(|| drop(client)))
        .build();
    let create = "CREATE TABLE numbers (n INTEGER PRIMARY KEY)";
    pool.get().unwrap().blocking(|client| client.batch_execute(create)).unwrap();
    a_thousand_goroutines(|n| {
        let insert = |client: &mut postgres::Client| client.execute("INSERT INTO numbers VALUES ($1)", &[&n]);
        assert_eq!(pool.get().unwrap().blocking(insert).unwrap(), 1);
    });
    let count = |client: &mut postgres::Client| {
        client.query_one("SELECT COUNT(*), SUM(n) FROM numbers", &[]).map(|row| (row.get(0), row.get(1)))
    };
    assert_eq!(pool.get().unwrap().blocking(count).unwrap(), (1000_i64, 499_500_i64));
    check_bounds(&pool);
    // The server ends all connections but one, by which it is told to.
    let mut last = pool.get().unwrap();
    let others = "SELECT COUNT(pg_terminate_backend(pid, 60000)) FROM pg_stat_activity \
                  WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let ended: i64 = last.blocking(|client| client.query_one(others, &[])).unwrap().get(0);
    assert_eq!(usize::try_from(ended).unwrap(), pool.stats().idle);
    // The check finds out.
    a_thousand_goroutines(|_| assert_eq!(pool.get().unwrap().blocking(count).unwrap(), (1000, 499_500)));
    drop(last);
    check_bounds(&pool);
    pool.close();
    assert_eq!(pool.stats().size, 0);
}

#[goby::test(workers = 1)]
fn redis_blocking() {
    let server = blocking(servers::redis);
    let client = redis::Client::open(format!("redis://{}/", server.addr)).unwrap();
    let pool = Pool::builder(move || blocking(|| client.get_connection()))
        .max_size(CONNECTIONS)
        .check(|connection| blocking(|| connection.check_connection()))
        .build();
    a_thousand_goroutines(|n| {
        let add = |connection: &mut redis::Connection| connection.incr::<_, _, i32>("sum", n);
        assert!(pool.get().unwrap().blocking(add).unwrap() >= n);
    });
    let sum = |connection: &mut redis::Connection| connection.get::<_, i32>("sum");
    assert_eq!(pool.get().unwrap().blocking(sum).unwrap(), 499_500);
    check_bounds(&pool);
    // The server ends all connections but one, by which it is told to.
    let mut last = pool.get().unwrap();
    let idle = i32::try_from(pool.stats().idle).unwrap();
    let others = |connection: &mut redis::Connection| {
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query::<i32>(connection)
    };
    assert_eq!(last.blocking(others).unwrap(), idle);
    drop(last);
    // The check finds out.
    a_thousand_goroutines(|_| assert_eq!(pool.get().unwrap().blocking(sum).unwrap(), 499_500));
    check_bounds(&pool);
}

/// A thousand have used a few connections, and all of these are back.
fn check_bounds<T: Send + 'static, E>(pool: &Pool<T, E>) {
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.waiting), (0, 0), "{stats:?}");
    assert!(stats.size <= CONNECTIONS && stats.waits > 0, "{stats:?}");
}
