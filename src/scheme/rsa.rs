//! `Authorization: Signature …` with rsa-sha256: `JumpCloud`'s System Context, and draft-cavage.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, DATE};
use tokio::sync::Semaphore;

use crate::code::Failure;
use crate::custody::{Material, Unsealed};
use crate::signature::{NotOnce, Part, rsa_authorization, signing_string};
use crate::transport::{Outbound, Signed};

/// An RSA signature scheme: its form, and the limit of parallel signatures.
#[derive(Debug, Clone)]
pub struct Rsa {
    form: Form,
    turns: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
enum Form {
    /// The request line without a label, then `date`.
    SystemContext,
    /// These parts, as in draft-cavage.
    Cavage(Vec<Part>),
}

impl Rsa {
    /// Creates the scheme of the System Context API.
    #[must_use]
    pub fn system_context() -> Self {
        Self::of(Form::SystemContext)
    }

    /// Creates the draft-cavage scheme for a header list such as `["(request-target)", "date"]`.
    ///
    /// # Errors
    /// What is wrong with the list, as a sentence.
    pub fn cavage(names: &[&str]) -> Result<Self, String> {
        Part::list(names).map(|parts| Self::of(Form::Cavage(parts)))
    }

    fn of(form: Form) -> Self {
        // More signatures in parallel than cores would only wait for each other.
        let turns = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { form, turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Returns the list of signed parts for the header.
    fn headers(&self) -> String {
        match &self.form {
            Form::SystemContext => "request-line date".to_owned(),
            Form::Cavage(parts) => parts.iter().map(Part::as_str).collect::<Vec<_>>().join(" "),
        }
    }

    /// Signs on a blocking thread, so that the worker's other calls are not delayed.
    pub(super) async fn sign_deferred<'e>(
        &self,
        outbound: Outbound<'e>,
        credential: &Unsealed<'e>,
    ) -> Result<Signed<'e>, Failure> {
        let Material::Rsa { id, key } = credential.material() else { return Err(credential.unfit()) };
        let (method, target) = (outbound.method().as_str(), outbound.signed_target());
        let string = self.signing_string(method, target, outbound.headers()).map_err(Failure::internal)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let key = key.clone();
        let signing = tokio::task::spawn_blocking(move || {
            let signature = key.sign(&string);
            drop(turn);
            signature
        });
        let failure = || Failure::internal("the signature could not be made");
        let signature = signing.await.ok().flatten().ok_or_else(failure)?;
        let value = rsa_authorization(id, &self.headers(), &signature).map_err(Failure::internal)?;
        Ok(outbound.sign(credential, AUTHORIZATION, value))
    }

    /// Builds the signing string of a request.
    ///
    /// # Errors
    /// [`NotOnce`] if a signed header does not occur exactly once.
    pub(super) fn signing_string(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<Vec<u8>, NotOnce> {
        match &self.form {
            Form::SystemContext => {
                let date = signing_string(&[Part::Header(DATE)], method, target, headers)?;
                let mut string = format!("{method} {target} HTTP/1.1\n").into_bytes();
                string.extend_from_slice(&date);
                Ok(string)
            }
            Form::Cavage(parts) => signing_string(parts, method, target, headers),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_request_line_is_signed_as_it_is_sent() {
        let mut headers = HeaderMap::new();
        let date = HeaderValue::from_static("Mon, 17 Feb 2014 06:11:05 GMT");
        let rsa = Rsa::system_context();
        assert!(rsa.signing_string("GET", "/api/systems/1", &headers).is_err());
        headers.insert(DATE, date);
        let string = rsa.signing_string("GET", "/api/systems/1", &headers).unwrap();
        assert_eq!(string, b"GET /api/systems/1 HTTP/1.1\ndate: Mon, 17 Feb 2014 06:11:05 GMT");
        let string = Rsa::cavage(&["(request-target)", "date"]).unwrap();
        let string = string.signing_string("GET", "/api/systems/1", &headers).unwrap();
        assert_eq!(string, b"(request-target): get /api/systems/1\ndate: Mon, 17 Feb 2014 06:11:05 GMT");
    }

    #[test]
    fn takes_only_lists_that_sign_what_matters() {
        for bad in [vec![], vec!["date"], vec!["(request-target)"], vec!["(request-target)", "date", "date"]]
        {
            assert!(Rsa::cavage(&bad).is_err(), "{bad:?}");
        }
        assert!(Rsa::cavage(&["(request-target)", "Date"]).is_err());
    }
}
