//! A server that leaks, and the page that shows where.
//!
//!     cargo run -p goby-examples --bin leaky_server [ADDR] [SUBSCRIBERS]
//!
//! then open http://127.0.0.1:8080/debug/goby/ and ask for http://127.0.0.1:8080/events a few
//! times.
//!
//! In Go:
//!
//! ```go
//! import _ "net/http/pprof"
//!
//! var subscribers struct{ sync.Mutex; all []chan string }
//!
//! func main() {
//!     http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
//!         go logEvents(subscribe()) // it is never called off
//!         fmt.Fprintln(w, "subscribed")
//!     })
//!     log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil))
//! }
//! ```

use std::io;

use goby::chan::{Receiver, Sender, bounded};
use goby::go;
use goby::goroutine::with_labels;
use goby::net::TcpListener;
use goby::sync::Mutex;
use goby_http::{Request, Router, debug};

static SUBSCRIBERS: Mutex<Vec<Sender<String>>> = Mutex::new(Vec::new());

fn subscribe() -> Receiver<String> {
    let (tx, rx) = bounded(0);
    SUBSCRIBERS.lock().push(tx); // nobody takes it out again
    rx
}

fn log_events(events: &Receiver<String>) {
    while let Ok(event) = events.recv() {
        println!("{event}");
    }
}

fn start_logging(client: String) {
    let events = subscribe();
    with_labels([("client", client)], || go(move || log_events(&events)));
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let n: usize = args.next().map_or(Ok(0), |n| n.parse()).map_err(io::Error::other)?;
    let listener = TcpListener::bind(&*addr)?;
    println!("listening on http://{}", listener.local_addr()?);
    for _ in 0..n {
        let events = subscribe();
        go(move || log_events(&events));
    }
    let router = Router::new().get("/events", |request: Request| {
        start_logging(request.remote_addr().ip().to_string());
        "subscribed\n"
    });
    goby_http::serve(listener, router.merge(debug::routes()))
}
