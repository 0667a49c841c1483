//! A server for the files of a folder: ranges, conditions, compression, and a log.
//!
//!     cargo run -p goby-examples --bin static_files [ADDR [DIR]]
//!     curl --compressed 127.0.0.1:8080/README.md
//!     curl -r 0-99 127.0.0.1:8080/README.md
//!
//! In Go, where the log and the compression are other people's packages:
//!
//! ```go
//! func main() {
//!     files := http.FileServer(http.Dir("."))
//!     log.Fatal(http.ListenAndServe("127.0.0.1:8080", logged(gziphandler.GzipHandler(files))))
//! }
//! ```

use std::io;

use goby_http::encoding::compress;
use goby_http::files::Files;
use goby_http::{Request, Server, access_log};

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let dir = args.next().unwrap_or_else(|| ".".to_owned());
    tracing_subscriber::fmt().with_ansi(false).init();

    let files = Files::new(dir);
    let compressed = move |request: Request| compress(request, &files);
    let server = Server::bind(&*addr)?;
    println!("listening on http://{}", server.local_addr());
    server.serve(move |request: Request| access_log(request, &compressed))
}
