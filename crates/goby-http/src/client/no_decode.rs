//! Responses whose content codings are taken off: none, without a feature for a coding.

use http::{HeaderMap, Method};

use crate::body::Body;
use crate::response::Origin;

pub(super) fn ask(_: &Method, _: &mut HeaderMap) -> bool {
    false
}

pub(super) fn decoded(_: &mut HeaderMap, body: Body, _: u64, _: &Origin) -> Body {
    body
}
