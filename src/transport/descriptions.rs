//! Headers that describe a body, and are untrue of another in its place.

use http::HeaderMap;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG};

/// Takes off what describes a body that was changed: its validator, its digests, what is signed of it, and that
/// parts of it can be had. `Last-Modified` stays: the same body becomes the same again.
pub fn remove_descriptions(headers: &mut HeaderMap) {
    for name in [ETAG, ACCEPT_RANGES, CONTENT_RANGE] {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"] {
        headers.remove(name);
    }
}
