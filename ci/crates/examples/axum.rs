//! An axum `Router` on goby: one goroutine per connection, and handlers that may park. Ctrl-C ends
//! it, after the requests under way. It takes HTTP/1.1 and HTTP/2, and needs no tokio.
//!
//!     cargo run --manifest-path ci/crates/Cargo.toml --bin axum [ADDR]
//!
//! then: curl 127.0.0.1:8080/hello/gopher
//!
//! In Go:
//!
//! ```go
//! func main() {
//!     mux := http.NewServeMux()
//!     mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
//!         fmt.Fprintf(w, "Hello, %s!\n", r.PathValue("name"))
//!     })
//!     mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
//!         var numbers []float64
//!         if err := json.NewDecoder(r.Body).Decode(&numbers); err != nil {
//!             http.Error(w, err.Error(), http.StatusBadRequest)
//!             return
//!         }
//!         json.NewEncoder(w).Encode(sum(numbers))
//!     })
//!     mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
//!         fmt.Println("slow begins")
//!         time.Sleep(time.Second)
//!         fmt.Fprintln(w, "done")
//!     })
//!     mux.HandleFunc("GET /bug", func(w http.ResponseWriter, r *http.Request) {
//!         panic("a handler's bug")
//!     })
//!     ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//!     defer stop()
//!     server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
//!     go server.ListenAndServe()
//!     <-ctx.Done()
//!     server.Shutdown(context.Background())
//! }
//! ```

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::time::Duration;

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use goby::net::{TcpListener, TcpStream};
use goby::signal::{self, Signal};
use goby::sync::WaitGroup;
use goby::{Context, block_on, block_on_ctx, time};
use goby_http::rt::{Executor, Io, Timer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;

fn router() -> Router {
    Router::new()
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("Hello, {name}!\n")))
        .route("/sum", post(async |Json(numbers): Json<Vec<f64>>| Json(numbers.iter().sum::<f64>())))
        .route("/slow", get(slow))
        .route("/bug", get(async || -> &'static str { panic!("a handler's bug") }))
}

/// It is async because axum wants that, but it may do whatever a goroutine may.
async fn slow() -> &'static str {
    println!("slow begins");
    time::sleep(Duration::from_secs(1)); // this request waits, the others do not
    "done\n"
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&*addr)?;
    println!("listening on http://{}", listener.local_addr()?);
    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    serve(&ctx, &listener, &router());
    println!("bye");
    Ok(())
}

/// Accepts connections until `ctx` is done, and then waits until each has ended.
fn serve(ctx: &Context, listener: &TcpListener, router: &Router) {
    let connections = WaitGroup::new();
    listener.set_context(Some(ctx));
    while ctx.err().is_none() {
        match listener.accept() {
            Ok((stream, _)) => {
                let (ctx, router) = (ctx.clone(), router.clone());
                // A panic of a handler ends its connection. `wait` would raise it again.
                connections.go(move || {
                    let _ = catch_unwind(AssertUnwindSafe(|| serve_connection(&ctx, stream, router)));
                });
            }
            Err(_) if ctx.err().is_some() => {}
            Err(error) => {
                eprintln!("accept: {error}; trying again");
                time::sleep(Duration::from_millis(100)); // no descriptor is free, say
            }
        }
    }
    connections.wait();
}

fn serve_connection(ctx: &Context, stream: TcpStream, router: Router) {
    let mut protocols = auto::Builder::new(Executor);
    protocols.http1().timer(Timer);
    protocols.http2().timer(Timer);
    let mut connection = pin!(protocols.serve_connection(Io::new(stream), TowerToHyperService::new(router)));
    let ended = block_on_ctx(ctx, connection.as_mut()).unwrap_or_else(|_done| {
        connection.as_mut().graceful_shutdown();
        block_on(connection)
    });
    if let Err(error) = ended {
        eprintln!("a connection: {error}"); // such as a client that has gone
    }
}
