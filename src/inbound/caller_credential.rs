//! Finds the consumer's own credential in other parts of the request.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;

use super::directory::Directory;
use super::presented::{Presented, SentToken, Via};
use super::{Identity, api_key, authorization};
use crate::query::decode_query;
use crate::scanner::{SHORTEST, Scanner};
use crate::signature::{self, VerifyingKey};
use crate::target::Target;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The shortest run of letters and digits that may be base64.
const RUN: usize = 20;

/// A consumer's own credential: its token, or the secret of its access key.
pub struct CallerCredential<'h> {
    source: Source<'h>,
    /// Built when a text could contain the credential, which is rare. Boxed, since the rest is moved with every call.
    scanner: OnceCell<Box<Scanner>>,
}

enum Source<'h> {
    Sent(SentToken<'h>),
    Key(Arc<VerifyingKey>),
}

impl<'h> CallerCredential<'h> {
    /// The credential by which this consumer was authenticated, in a request with these headers.
    #[must_use]
    pub fn of(identity: &Identity, headers: &'h HeaderMap, directory: &Directory) -> Option<Self> {
        match (identity.via(), identity.proven()) {
            (Via::AccessKey, proven) => Some(Self::new(Source::Key(directory.verifying(&proven?.key)?))),
            (Via::ApiKey, _) => Self::token(api_key::attempt(headers).ok()??),
            (Via::Bearer | Via::Token, _) => Some(Self::new(Source::Sent(authorization::token(headers)?))),
            (Via::Basic, _) => Self::token(authorization::attempt(headers).ok()??),
        }
    }

    /// The credential that was sent, valid or not. For a signature, it is the secret of the key that
    /// the signature names.
    #[must_use]
    pub fn from_request(headers: &'h HeaderMap, directory: &Directory) -> Option<Self> {
        let attempt = authorization::attempt(headers).ok()?.or(api_key::attempt(headers).ok()?)?;
        match attempt {
            Presented::Token(_, sent) => Some(Self::new(Source::Sent(sent))),
            Presented::Signature(sent) => {
                let presented = signature::Presented::parse(std::str::from_utf8(sent.expose()).ok()?).ok()?;
                let key = directory.verifying(&Uuid::try_parse(&presented.key_id).ok()?)?;
                Some(Self::new(Source::Key(key)))
            }
            Presented::Unreadable(_) => None,
        }
    }

    fn token(attempt: Presented<'h>) -> Option<Self> {
        match attempt {
            Presented::Token(_, sent) => Some(Self::new(Source::Sent(sent))),
            Presented::Signature(_) | Presented::Unreadable(_) => None,
        }
    }

    fn new(source: Source<'h>) -> Self {
        Self { source, scanner: OnceCell::new() }
    }

    /// Whether `text` contains the credential, as it is or in another spelling. A credential of less than eight bytes
    /// counts only if it is the whole text.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        let secret = self.expose();
        if secret.len() < SHORTEST {
            return !secret.is_empty() && text == secret;
        }
        if text.len() < secret.len() {
            return false;
        }
        if is_spelled_plainly(text) {
            // The text is short, and a searcher would cost more to build than it saves.
            return text.windows(secret.len()).any(|window| window == secret);
        }
        self.scanner().is_in(text)
    }

    /// Whether the name of a header line, which has no upper case, contains the credential. A credential of less than
    /// eight bytes counts only if it is the whole name.
    #[must_use]
    pub fn is_in_name(&self, name: &HeaderName) -> bool {
        let (secret, name) = (self.expose(), name.as_str().as_bytes());
        if name.len() < secret.len() || secret.is_empty() {
            return false;
        }
        if secret.len() < SHORTEST {
            return secret.eq_ignore_ascii_case(name);
        }
        let secret = Zeroizing::new(secret.to_ascii_lowercase());
        Scanner::new(&[Cow::Borrowed(&secret)]).is_in(name)
    }

    /// Whether any part of a target contains the credential.
    #[must_use]
    pub fn is_in_target(&self, target: &Target) -> bool {
        if self.expose().len() >= SHORTEST {
            return self.is_in(target.as_str().as_bytes());
        }
        target.query_members().any(|(_, value)| self.is_in(decode_query(value).as_bytes()))
    }

    /// The text with the credential replaced by `*`; `None` if the text does not contain it.
    #[must_use]
    pub fn conceal(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut clean = self.is_in(text).then(|| text.to_vec())?;
        self.scanner().replace(&mut clean);
        Some(clean)
    }

    fn scanner(&self) -> &Scanner {
        self.scanner.get_or_init(|| Box::new(Scanner::new(&[Cow::Borrowed(self.expose())])))
    }

    fn expose(&self) -> &[u8] {
        match &self.source {
            Source::Sent(sent) => sent.expose(),
            Source::Key(key) => key.secret().expose(),
        }
    }
}

/// Whether `text` has no escape and nothing that could be base64.
fn is_spelled_plainly(text: &[u8]) -> bool {
    // A `;` ends a character reference, but an `&` in a query alone does not begin one.
    let reference = memchr::memchr(b'&', text).and_then(|at| memchr::memchr(b';', text.get(at..)?));
    if reference.is_some() || memchr::memchr2(b'%', b'\\', text).is_some() {
        return false;
    }
    // A run of this length covers one of these bytes.
    let is_run = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_');
    !(RUN - 1..text.len()).step_by(RUN).any(|at| {
        let (before, after) = text.split_at(at);
        before.iter().rev().take_while(is_run).count() + after.iter().take_while(is_run).count() >= RUN
    })
}

#[cfg(test)]
mod tests {
    use super::{RUN, is_spelled_plainly};

    /// The rule byte by byte.
    fn by_the_rule(text: &[u8]) -> bool {
        let (mut run, mut refers) = (0, false);
        text.iter().all(|byte| {
            refers |= *byte == b'&';
            run = if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'_') { run + 1 } else { 0 };
            run < RUN && !matches!(byte, b'%' | b'\\') && !(refers && *byte == b';')
        })
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_plain_by_the_rule(text in "([A-Za-z0-9+_]{1,24}[-&;%/=.\\\\]{0,2}){0,5}") {
            proptest::prop_assert_eq!(is_spelled_plainly(text.as_bytes()), by_the_rule(text.as_bytes()));
        }
    }
}
