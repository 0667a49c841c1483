//! Graceful shutdown: at Ctrl-C the server takes no new connections, finishes what it has begun,
//! and ends.
//!
//!     cargo run -p goby-examples --bin graceful_shutdown [ADDR]
//!
//! In Go:
//!
//! ```go
//! func main() {
//!     ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//!     defer stop()
//!     server := &http.Server{Addr: "127.0.0.1:8080", Handler: http.HandlerFunc(handle)}
//!     go server.ListenAndServe()
//!     <-ctx.Done()
//!     fmt.Println("interrupted: no new connections")
//!     server.Shutdown(context.Background())
//!     fmt.Println("bye")
//! }
//! ```

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goby::signal::{self, Signal};
use goby::{Context, time};
use goby_http::{Request, Server};

fn main() -> io::Result<()> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());

    let (ctx, _stop) = signal::notify_context(&Context::background(), &[Signal::INTERRUPT, Signal::TERMINATED])?;
    ctx.after_func(|| println!("interrupted: no new connections"));

    let requests = AtomicU32::new(0);
    server.serve_ctx(&ctx, move |_: Request| {
        let n = 1 + requests.fetch_add(1, Ordering::Relaxed);
        println!("request {n} begins");
        time::sleep(Duration::from_secs(1));
        println!("request {n} ends");
        format!("request {n} took its time\n")
    })?;
    println!("bye");
    Ok(())
}
