//! Headers that describe a body, and are untrue of another in its place.

use http::HeaderMap;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG};

/// What says of a body which bytes it has (RFC 1864, 3230, 9530), or is signed of such lines (RFC 9421).
const DIGESTS: [&str; 6] =
    ["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"];

/// Takes off what describes a body that was changed: its validator, its digests, what is signed of it, and that
/// parts of it can be had. `Last-Modified` stays: the same body becomes the same again.
pub fn remove_descriptions(headers: &mut HeaderMap) {
    for name in [ETAG, ACCEPT_RANGES, CONTENT_RANGE] {
        headers.remove(name);
    }
    remove_digests(headers);
}

/// Takes off what would be untrue of a body that is changed on its way, where nobody knows yet whether it will be.
/// The validator stays: the body is changed in the same way each time.
pub(super) fn remove_digests(headers: &mut HeaderMap) {
    for name in DIGESTS {
        headers.remove(name);
    }
}
