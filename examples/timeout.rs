//! A timeout: a request in flight is abandoned, and its socket closed, when its context is done.
//!
//! In Go:
//!
//! ```go
//! func fetch(url string, timeout time.Duration) ([]byte, error) {
//!     ctx, cancel := context.WithTimeout(context.Background(), timeout)
//!     defer cancel()
//!     req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
//!     if err != nil {
//!         return nil, err
//!     }
//!     resp, err := http.DefaultClient.Do(req)
//!     if err != nil {
//!         return nil, err
//!     }
//!     defer resp.Body.Close()
//!     return io.ReadAll(resp.Body)
//! }
//! ```

use std::io;
use std::time::Duration;

use goby::{Context, go, time};
use goby_http::{Error, Request, Server};

fn fetch(url: &str, timeout: Duration) -> Result<String, Error> {
    let (ctx, _cancel) = Context::background().with_timeout(timeout);
    goby_http::get(&ctx, url)?.text()
}

fn page(request: Request) -> &'static str {
    if request.path() == "/slow" {
        // Ends early when the client has gone.
        let _ = time::sleep_ctx(request.context(), Duration::from_secs(60));
    }
    "Hello, World!"
}

fn main() -> io::Result<()> {
    let server = Server::bind("127.0.0.1:0")?;
    let site = format!("http://{}", server.local_addr());
    let (serving, _stop) = Context::background().with_cancel();
    go(move || server.serve_ctx(&serving, page));

    for (path, timeout) in [("/quick", Duration::from_secs(30)), ("/slow", Duration::from_millis(100))] {
        match fetch(&format!("{site}{path}"), timeout) {
            Ok(text) => println!("{path}: {text}"),
            Err(error) if error.is_timeout() => println!("{path}: nothing within {timeout:?}"),
            Err(error) => println!("{path}: {error}"),
        }
    }
    Ok(())
}
