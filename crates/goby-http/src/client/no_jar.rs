//! The jar of a client without the feature `cookie_jar`: it keeps nothing.

use http::{HeaderMap, HeaderValue};
use url::Url;

#[derive(Clone, Debug)]
pub(super) struct CookieJar;

impl CookieJar {
    pub(super) fn keep(&self, _: &HeaderMap, _: &Url) {}

    pub(super) fn add_to(&self, _: &mut HeaderMap, _: &Url) -> Option<HeaderValue> {
        None
    }
}
