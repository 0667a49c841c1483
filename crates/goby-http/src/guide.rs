//! The guide: pages to read from top to bottom.
//!
//! Every program in it is compiled and run as a test.

#[doc = include_str!("docs/http_requests.md")]
pub mod http_requests {}

#[doc = include_str!("docs/http_services.md")]
pub mod http_services {}

#[cfg(feature = "tls")]
#[doc = include_str!("docs/client_connections.md")]
pub mod client_connections {}
