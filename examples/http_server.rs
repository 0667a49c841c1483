//! An HTTP server: one goroutine per connection, and handlers that simply block.
//!
//!     cargo run -p goby-examples --bin http_server [ADDR]      then: curl 127.0.0.1:8080/hello/gopher
//!
//! In Go:
//!
//! ```go
//! func main() {
//!     http.HandleFunc("/hello/{name}", func(w http.ResponseWriter, r *http.Request) {
//!         fmt.Fprintf(w, "Hello, %s!\n", r.PathValue("name"))
//!     })
//!     http.HandleFunc("/sleep/{ms}", func(w http.ResponseWriter, r *http.Request) {
//!         ms, err := strconv.Atoi(r.PathValue("ms"))
//!         if err != nil {
//!             http.Error(w, "how long?", http.StatusBadRequest)
//!             return
//!         }
//!         time.Sleep(time.Duration(ms) * time.Millisecond)
//!         fmt.Fprintf(w, "slept %d ms\n", ms)
//!     })
//!     log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil))
//! }
//! ```

use std::io;
use std::time::Duration;

use goby::net::TcpListener;
use goby::time;
use goby_http::{Request, Response, StatusCode};

fn route(request: Request) -> Response {
    if let Some(name) = request.path().strip_prefix("/hello/") {
        return format!("Hello, {name}!\n").into();
    }
    if let Some(ms) = request.path().strip_prefix("/sleep/") {
        let Ok(ms) = ms.parse() else { return Response::new("how long?").with_status(StatusCode::BAD_REQUEST) };
        time::sleep(Duration::from_millis(ms)); // this connection waits, the others do not
        return format!("slept {ms} ms\n").into();
    }
    StatusCode::NOT_FOUND.into()
}

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&*addr)?;
    println!("listening on http://{}", listener.local_addr()?);
    goby_http::serve(listener, route)
}
