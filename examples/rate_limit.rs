//! A rate limit: ten pages, five at once, then 50 per second.
//!
//! In Go, with golang.org/x/time/rate:
//!
//! ```go
//! func fetchAll(ctx context.Context, urls []string) error {
//!     limiter := rate.NewLimiter(50, 5)
//!     for _, url := range urls {
//!         if err := limiter.Wait(ctx); err != nil {
//!             return err
//!         }
//!         fetch(ctx, url)
//!     }
//!     return nil
//! }
//! ```
//!
//! With a ticker instead, as it is often written: `for _ in time::tick(Duration::from_millis(20)) {
//! … }`.

use std::error::Error;
use std::time::Instant;

use goby::{Context, go, rate};
use goby_http::{Client, Request, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::bind("127.0.0.1:0")?;
    let site = format!("http://{}", server.local_addr());
    let (serving, _stop) = Context::background().with_cancel();
    go(move || server.serve_ctx(&serving, |request: Request| format!("this is {}", request.path())));

    let ctx = Context::background();
    let client = Client::new();
    let limiter = rate::Limiter::per_second(50.0, 5);
    let start = Instant::now();
    for i in 0..10 {
        limiter.wait(&ctx)?;
        let page = client.get(&ctx, format!("{site}/{i}"))?;
        println!("page {i}: {}", page.status());
    }
    println!("10 pages in {} ms", start.elapsed().as_millis());
    Ok(())
}
