//! Headers that describe a body, and that become wrong if the body is changed.

use http::HeaderMap;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG};

/// Header fields with a digest of the body (RFC 1864, 3230, 9530), or a signature over such fields (RFC 9421).
const DIGESTS: [&str; 6] =
    ["content-md5", "digest", "content-digest", "repr-digest", "signature", "signature-input"];

/// Removes the headers that describe a changed body: its validator, its digests, signatures over them, and the offer of
/// ranges. `Last-Modified` stays, since the same body is always changed in the same way.
pub fn remove_descriptions(headers: &mut HeaderMap) {
    for name in [ETAG, ACCEPT_RANGES, CONTENT_RANGE] {
        headers.remove(name);
    }
    remove_digests(headers);
}

/// Removes the headers that would be wrong if the body is changed while it streams. The validator stays, since the same
/// body is always changed in the same way.
pub(super) fn remove_digests(headers: &mut HeaderMap) {
    for name in DIGESTS {
        headers.remove(name);
    }
}
