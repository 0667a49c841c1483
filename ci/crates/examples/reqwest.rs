//! A thousand pages of a site, fetched by reqwest from goroutines, 64 at a time. The first error
//! stops the others: their requests are dropped, and with them their connections.
//!
//! In Go:
//!
//! ```go
//! func main() {
//!     site := os.Args[1]
//!     bodies := make([][]byte, 1000)
//!     group, ctx := errgroup.WithContext(context.Background())
//!     group.SetLimit(64)
//!     for n := range bodies {
//!         group.Go(func() error {
//!             url := fmt.Sprintf("%s/%d", site, n)
//!             request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
//!             if err != nil {
//!                 return err
//!             }
//!             response, err := http.DefaultClient.Do(request)
//!             if err != nil {
//!                 return err
//!             }
//!             defer response.Body.Close()
//!             if response.StatusCode >= 400 {
//!                 return errors.New(response.Status)
//!             }
//!             bodies[n], err = io.ReadAll(response.Body)
//!             return err
//!         })
//!     }
//!     if err := group.Wait(); err != nil {
//!         log.Fatal(err)
//!     }
//!     total := 0
//!     for _, body := range bodies {
//!         total += len(body)
//!     }
//!     fmt.Println(len(bodies), "pages,", total, "bytes")
//! }
//! ```

use goby::context::Cause;
use goby::{Context, group::Group};
use goby_tokio::block_on_ctx;

fn main() -> Result<(), Cause> {
    let site = std::env::args().nth(1).expect("usage: reqwest SITE, which has the pages 0 to 999");
    let client = reqwest::Client::new();
    let (group, ctx) = Group::<String>::with_context(&Context::background());
    group.set_limit(64);
    for n in 0..1000 {
        let (client, ctx, url) = (client.clone(), ctx.clone(), format!("{site}/{n}"));
        group.go(move || {
            let page = async { client.get(url).send().await?.error_for_status()?.text().await };
            Ok(block_on_ctx(&ctx, page)??)
        });
    }
    let bodies = group.wait()?;
    println!("{} pages, {} bytes", bodies.len(), bodies.iter().map(String::len).sum::<usize>());
    Ok(())
}
