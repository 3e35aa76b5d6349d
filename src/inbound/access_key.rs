//! Access keys that claviger issues: the consumer signs the request with such a key.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, SystemTime};

use http::header::DATE;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::credential_error::{CredentialError, Ended};
use super::replay::{NONCE_LEN, Nonce};
use crate::ids::ConsumerId;
use crate::secret::Secret;
use crate::signature::{Algorithm, Diagnosis, Message, Presented, Unreadable, VerifyingKey};

/// An access key, by whose signature a consumer is authenticated.
#[derive(Debug)]
pub struct AccessKey {
    /// The id of the key, which is not secret.
    pub id: Uuid,
    /// The key that verifies its signatures.
    pub key: Arc<VerifyingKey>,
    /// The algorithms that its signatures may use; a key of the store always allows hmac-sha256.
    pub algorithms: Vec<Algorithm>,
    /// The greatest distance of the signed `Date` from the present time; within it, each signature may be used once.
    /// `None` for keys of scripts that use one date for hours.
    pub strict: Option<Duration>,
    /// When the key expires; `None` if it never does.
    pub expires: Option<SystemTime>,
    /// The reason why the key is invalid at any time, if it is.
    pub dead: Option<Ended>,
}

/// An access key and the consumer that holds it.
#[derive(Debug)]
pub(super) struct TokenEntry {
    /// The consumer that holds the key.
    pub(super) consumer: ConsumerId,
    pub(super) key: AccessKey,
    /// When the key was last used, in seconds since 1970; 0 for never. Shared with former directories.
    pub(super) used: Arc<AtomicI64>,
}

/// What a signature proves in addition to the consumer.
#[derive(Debug, Clone, Copy)]
pub struct Proven {
    /// The id of the access key.
    pub key: Uuid,
    /// The nonce to consume, if each signature of this key may be used only once.
    pub once: Option<Nonce>,
}

/// Finds the key of a signature in `keys`, and verifies the signature. For an unknown key, a dummy verification takes
/// the same time, so that the time does not reveal which ids exist.
pub(super) fn prove<'k>(
    sent: &Secret,
    message: Message<'_>,
    keys: &'k HashMap<Uuid, TokenEntry>,
    now: SystemTime,
) -> Result<(&'k TokenEntry, Option<Nonce>), CredentialError> {
    let text = std::str::from_utf8(sent.expose()).map_err(|_| Unreadable::Form)?;
    let presented = Presented::parse(text)?;
    let found = Uuid::try_parse(&presented.key_id).ok().and_then(|id| keys.get(&id));
    let unknown = CredentialError::BadSignature("unknown access key", true);
    let Some(entry) = found.or_else(|| keys.values().next()) else { return Err(unknown) };
    let key = &entry.key;
    let verified = match message.signing_string(&presented.parts, None) {
        Ok(string) => key.key.verify(presented.algorithm, &string, presented.signature()),
        Err(_) => false,
    };
    if found.is_none() {
        return Err(unknown);
    }
    if !verified {
        return Err(CredentialError::BadSignature(UNVERIFIED, true));
    }
    // Only a caller with the secret learns what happened to the key.
    if let Some(dead) = key.dead {
        return Err(CredentialError::Ended(dead));
    }
    if key.expires.is_some_and(|end| end <= now) {
        return Err(CredentialError::Ended(Ended::Expired));
    }
    if !key.algorithms.contains(&presented.algorithm) {
        return Err(CredentialError::BadSignature(
            "signature by an algorithm that the key does not allow",
            false,
        ));
    }
    Ok((entry, key.strict.map(|window| nonce_of(&presented, message, (key.id, window)))))
}

const UNVERIFIED: &str = "signature does not verify";

/// Explains why a signature that [`prove`] has refused does not verify; `None` if its key is unknown. It costs as much
/// as thousands of refusals, whether the key is known or not. The caller limits how often it runs.
pub(super) fn explain(
    sent: &Secret,
    message: Message<'_>,
    keys: &HashMap<Uuid, TokenEntry>,
) -> Option<String> {
    let presented = Presented::parse(std::str::from_utf8(sent.expose()).ok()?).ok()?;
    let found = Uuid::try_parse(&presented.key_id).ok().and_then(|id| keys.get(&id));
    let key = &found.or_else(|| keys.values().next())?.key;
    let difference = Diagnosis::find(&key.key, &presented, message);
    found?;
    let why = difference.map_or_else(
        || "the secret is wrong, or several lines differ".to_owned(),
        |difference| difference.to_string(),
    );
    Some(format!("{UNVERIFIED}: {why} (access key {})", key.id))
}

/// The nonce that identifies this signature.
fn nonce_of(presented: &Presented, message: Message<'_>, (id, window): (Uuid, Duration)) -> Nonce {
    let mut digest = Sha256::new();
    digest.update(id.as_bytes());
    digest.update(presented.signature());
    let mut nonce = [0; NONCE_LEN];
    for (to, from) in nonce.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    let mut lines = message.headers.get_all(DATE).iter();
    let line = lines.next().filter(|_| lines.next().is_none());
    let dated = line.and_then(|line| httpdate::parse_http_date(line.to_str().ok()?).ok());
    Nonce { key: id, nonce, dated, window }
}
