//! The organisation that a caller names, where an upstream's product has organisations.

use http::{HeaderMap, HeaderName};

use crate::query::{may_name, same_query_name};
use crate::target::Target;

/// How a product is told the organisation, and every way around that must be closed.
#[derive(Debug, Clone)]
pub struct OrgPin {
    /// The header that names it: `x-jms-org`. Sent exactly once, by us.
    pub header: HeaderName,
    /// The query member that would overrule the header: `oid`.
    pub query: Option<&'static str>,
}

/// The caller tried a way around the pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override;

/// The organisation that the request names, if any. An empty header counts as absent.
///
/// # Errors
/// [`Override`] where the query names one, or the header does so more than once.
pub fn named_org(pin: &OrgPin, headers: &HeaderMap, target: &Target) -> Result<Option<String>, Override> {
    if let Some(query) = pin.query
        && may_name(target.query(), query)
        && target.query_members().any(|(name, _)| same_query_name(name, query))
    {
        return Err(Override);
    }
    let mut named = headers.get_all(&pin.header).iter().filter(|value| !value.is_empty());
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.to_owned())).map_err(|_| Override),
        (Some(_), Some(_)) => Err(Override),
    }
}
