//! Content codings, both ways: bodies that are compressed by gzip, brotli or zstd.
//!
//! [`compress`] and [`decompress`] are middlewares of a server. [`Decoder`] is a body with its
//! codings taken off, for whoever receives one.
//!
//! The coders are the crates `flate2`, `brotli` and `zstd`. They run in the goroutine that sends or
//! reads the body, one piece after the other, with a [checkpoint](goby::checkpoint) between two
//! pieces.
//!
//! ```
//! use goby::Context;
//! use goby_http::{Client, Request, Router, Server, encoding};
//!
//! let router = Router::new().get("/", |_: Request| "so it goes ".repeat(1000)).with(encoding::compress);
//! let server = Server::bind("127.0.0.1:0")?;
//! let url = format!("http://{}/", server.local_addr());
//! let (serving, _stop) = Context::background().with_cancel();
//! goby::go(move || server.serve_ctx(&serving, router));
//!
//! # #[cfg(feature = "gzip")] {
//! let request = http::Request::get(&*url).header("accept-encoding", "gzip").body(().into())?;
//! let response = Client::new().request(&Context::background(), request)?;
//! assert_eq!(response.headers()["content-encoding"], "gzip");
//! assert!(response.content_length().unwrap() < 200);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accept;
mod compress;
mod decode;
mod encode;

pub use compress::compress;
pub(crate) use decode::decode_response;
pub use decode::{Decoder, decompress};

/// A content coding that this build knows, by its feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coding {
    /// `gzip`, RFC 1952.
    #[cfg(feature = "gzip")]
    Gzip,
    /// `br`, RFC 7932.
    #[cfg(feature = "brotli")]
    Brotli,
    /// `zstd`, RFC 8878.
    #[cfg(feature = "zstd")]
    Zstd,
}

impl Coding {
    /// All of them. Of those that a client likes alike, the first is taken: zstd costs the least
    /// time for its size, and what knows brotli is a browser.
    pub const ALL: &[Coding] = &[
        #[cfg(feature = "zstd")]
        Coding::Zstd,
        #[cfg(feature = "brotli")]
        Coding::Brotli,
        #[cfg(feature = "gzip")]
        Coding::Gzip,
    ];

    /// The value of `accept-encoding` that asks for any of them.
    ///
    /// ```
    /// use goby_http::encoding::Coding;
    /// let names: Vec<_> = Coding::ALL.iter().map(|coding| coding.name()).collect();
    /// assert_eq!(Coding::ACCEPT, names.join(", "));
    /// ```
    pub const ACCEPT: &str = match (cfg!(feature = "zstd"), cfg!(feature = "brotli"), cfg!(feature = "gzip")) {
        (true, true, true) => "zstd, br, gzip",
        (true, true, false) => "zstd, br",
        (true, false, true) => "zstd, gzip",
        (true, false, false) => "zstd",
        (false, true, true) => "br, gzip",
        (false, true, false) => "br",
        (false, false, _) => "gzip",
    };

    /// Gives its name in headers.
    ///
    /// ```
    /// # #[cfg(feature = "gzip")]
    /// assert_eq!(goby_http::encoding::Coding::Gzip.name(), "gzip");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "gzip")]
            Coding::Gzip => "gzip",
            #[cfg(feature = "brotli")]
            Coding::Brotli => "br",
            #[cfg(feature = "zstd")]
            Coding::Zstd => "zstd",
        }
    }

    /// Finds the coding with this name, in any case; `x-gzip` is `gzip` (RFC 9110, section
    /// 8.4.1.3).
    ///
    /// ```
    /// use goby_http::encoding::Coding;
    /// # #[cfg(feature = "gzip")]
    /// assert_eq!(Coding::by_name("GZip"), Some(Coding::Gzip));
    /// assert_eq!(Coding::by_name("compress"), None);
    /// ```
    pub fn by_name(name: &str) -> Option<Coding> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Coding::ALL.iter().copied().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }
}
