//! How a credential is put on a request. One file a scheme, one variant here.

mod access_key;

pub use access_key::AccessKey;

use crate::custody::Unsealed;
use crate::transport::{Outbound, Signed};

/// How an upstream wants its credential.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// An HTTP signature made with an access key.
    AccessKey(AccessKey),
}

/// The credential could not be put on.
#[derive(Debug, thiserror::Error)]
pub enum Unsigned {
    /// A header that was to be signed is not there exactly once.
    #[error(transparent)]
    NotOnce(#[from] crate::signature::NotOnce),
    /// The credential's public part cannot stand in a header.
    #[error(transparent)]
    Header(#[from] http::header::InvalidHeaderValue),
}

impl Scheme {
    /// Puts the credential on: the last thing that is done to a request.
    ///
    /// # Errors
    /// [`Unsigned`].
    pub fn apply<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Signed<'e>, Unsigned> {
        match self {
            Self::AccessKey(scheme) => scheme.apply(outbound, credential),
        }
    }
}
