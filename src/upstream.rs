//! An upstream, compiled: where it is, what its product wants, how its credential is put on.

use crate::name::Name;
use crate::origin::Origin;
use crate::policy::OrgPin;
use crate::scheme::Scheme;
use crate::transport::links::Links;
use crate::transport::{Endpoint, Manners};

/// Everything that the gateway knows of one upstream.
pub struct Upstream {
    /// Its name.
    pub name: Name,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// What its product wants of a request.
    pub manners: Manners,
    /// How its product is told the organisation, where it has such.
    pub org: Option<OrgPin>,
    /// Whether a path without a slash at its end gets one before it is judged.
    pub trailing_slash: bool,
    /// Which of its links are rewritten.
    pub links: Links,
    /// How the credential is put on.
    pub scheme: Scheme,
}

impl Upstream {
    /// The one origin that its credential may be sent to: its own, or where tokens are given for it.
    #[must_use]
    pub fn credential_origin(&self) -> &Origin {
        &self.scheme.elsewhere().unwrap_or(&self.endpoint).origin
    }
}
