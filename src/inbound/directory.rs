//! The directory of consumers, found by token digests and access keys.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use hashbrown::HashTable;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::access_key::{self, AccessKey, Proven};
use super::credential_error::{CredentialError, Ended};
use crate::clock::seconds;
use crate::ids::ConsumerId;
use crate::name::Name;
use crate::secret::Secret;
use crate::signature::{Message, VerifyingKey};

/// A consumer as the directory knows it.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// The name of the consumer.
    pub name: Name,
    /// The greatest number of requests per minute, over all workers; `None` for no limit.
    pub requests_per_minute: Option<u32>,
    /// The greatest number of requests in flight, over all workers; `None` for no limit.
    pub concurrency: Option<u32>,
    /// Whether the consumer is disabled, so that none of its tokens is accepted.
    pub disabled: bool,
    /// Whether the store holds the consumer, whether or not the file declares it too.
    pub stored: bool,
}

impl Consumer {
    /// Makes a consumer without limits of its own.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self { name, requests_per_minute: None, concurrency: None, disabled: false, stored: false }
    }
}

/// A token that a consumer may present.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// The SHA-256 of the token.
    pub digest: [u8; 32],
    /// The id of the token in the store; `None` if the file declares the token.
    pub id: Option<Uuid>,
    /// When the token expires; `None` if it never does.
    pub expires: Option<SystemTime>,
    /// The reason why the token is invalid at any time, if it is.
    pub dead: Option<Ended>,
}

impl From<[u8; 32]> for TokenRecord {
    fn from(digest: [u8; 32]) -> Self {
        Self { digest, id: None, expires: None, dead: None }
    }
}

/// All consumers, found by the SHA-256 of a token. Tokens themselves are never kept.
#[derive(Debug, Default)]
pub struct Directory {
    consumers: Vec<Consumer>,
    /// The indices of consumers, by their names.
    places: HashTable<usize>,
    names: RandomState,
    tokens: HashTable<TokenEntry>,
    keys: HashMap<Uuid, access_key::TokenEntry>,
}

/// A token and its holder, in one cache line, since a call seldom finds it in the CPU's caches.
#[derive(Debug)]
#[repr(align(64))]
struct TokenEntry {
    digest: [u8; 32],
    consumer: u32,
    dead: Option<Ended>,
    /// Whether the token or its consumer comes from the store.
    stored: bool,
    expires: Option<SystemTime>,
    /// The record in the store; `None` if the file declares the token.
    record: Option<Arc<StoredToken>>,
}

impl TokenEntry {
    fn consumer(&self) -> ConsumerId {
        ConsumerId::new(usize::try_from(self.consumer).unwrap_or(usize::MAX))
    }
}

/// The record of a token of the store, shared by all directories that know the token. A call may still use a former
/// directory, and every use counts.
#[derive(Debug)]
struct StoredToken {
    id: Uuid,
    /// When the token was last presented, in seconds since 1970; 0 if never since the first of the directories.
    used: AtomicI64,
}

impl Directory {
    /// Builds the directory from consumers and their tokens.
    ///
    /// # Errors
    /// The two names, if two consumers have the same token.
    pub fn new(entries: Vec<(Consumer, Vec<TokenRecord>)>) -> Result<Self, Box<(Name, Name)>> {
        let mut directory = Self::default();
        directory.consumers.reserve_exact(entries.len());
        directory.places.reserve(entries.len(), |_| 0);
        directory.tokens.reserve(entries.iter().map(|(_, tokens)| tokens.len()).sum(), |_| 0);
        for (consumer, tokens) in entries {
            let place = directory.consumers.len();
            for TokenRecord { digest, id, expires, dead } in tokens {
                if let Some(known) = directory.token(&digest) {
                    match directory.consumer(known.consumer()) {
                        Some(other) => return Err(Box::new((other.name, consumer.name))),
                        // The consumer's own token, listed twice.
                        None => continue,
                    }
                }
                let record = id.map(|id| Arc::new(StoredToken { id, used: AtomicI64::default() }));
                let stored = record.is_some() || consumer.stored;
                // No machine has memory for so many consumers that an index does not fit.
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                let entry = TokenEntry { digest, consumer: place, dead, stored, expires, record };
                directory.tokens.insert_unique(hash_of(&digest), entry, |entry| hash_of(&entry.digest));
            }
            directory.consumers.push(consumer);
            let Self { consumers, places, names, .. } = &mut directory;
            let hash = |place: &usize| names.hash_one(name_at(consumers, *place));
            places.insert_unique(hash(&place), place, hash);
        }
        Ok(directory)
    }

    /// Adds these access keys, each with its consumer.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = (ConsumerId, AccessKey)>) -> Self {
        let entry = |(consumer, key): (ConsumerId, AccessKey)| {
            (key.id, access_key::TokenEntry { consumer, key, used: Arc::default() })
        };
        self.keys.extend(keys.into_iter().map(entry));
        self
    }

    /// The key that verifies the signatures of the access key with this id.
    #[must_use]
    pub fn verifying(&self, id: &Uuid) -> Option<Arc<VerifyingKey>> {
        self.keys.get(id).map(|entry| Arc::clone(&entry.key.key))
    }

    /// The longest window of the keys whose signatures may be used once; `None` if there are no such keys.
    #[must_use]
    pub fn strictness(&self) -> Option<Duration> {
        self.keys.values().filter_map(|entry| entry.key.strict).max()
    }

    /// Verifies a signature: its consumer, the id of the key, and the nonce to consume.
    pub(super) fn prove(
        &self,
        sent: &Secret,
        message: Message<'_>,
        now: SystemTime,
    ) -> Result<(ConsumerId, &Consumer, Proven), CredentialError> {
        let (entry, once) = access_key::prove(sent, message, &self.keys, now)?;
        let consumer = self.consumer(entry.consumer);
        let consumer = consumer.ok_or(CredentialError::BadSignature("access key of nobody", false))?;
        entry.used.store(seconds(now), Ordering::Relaxed);
        Ok((entry.consumer, consumer, Proven { key: entry.key.id, once }))
    }

    /// Explains, for the trail, why a signature does not verify. This costs far more than the verification itself.
    #[must_use]
    pub fn explain(&self, sent: &Secret, message: Message<'_>) -> Option<String> {
        access_key::explain(sent, message, &self.keys)
    }

    /// Makes the directory that replaces `former`. It keeps the recorded uses of tokens, and calls that still use the
    /// former directory add to them.
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        for TokenEntry { digest, record, .. } in &mut self.tokens {
            let Some(record) = record else { continue };
            if let Some(before) = former.token(digest).and_then(|entry| entry.record.as_ref())
                && before.id == record.id
            {
                *record = Arc::clone(before);
            }
        }
        for (id, entry) in &mut self.keys {
            if let Some(before) = former.keys.get(id) {
                entry.used = Arc::clone(&before.used);
            }
        }
        self
    }

    /// The digest under which `token` is stored.
    #[must_use]
    pub fn digest(token: &[u8]) -> [u8; 32] {
        Sha256::digest(token).into()
    }

    fn token(&self, digest: &[u8; 32]) -> Option<&TokenEntry> {
        self.tokens.find(hash_of(digest), |entry| entry.digest.ct_eq(digest).into())
    }

    /// Finds the holder of `token`. The time of the look-up depends on the digest of the token sent, which no caller
    /// can control. The match itself is compared in constant time. Returns the id and name of the consumer, and whether
    /// it or the token comes from the store.
    ///
    /// # Errors
    /// [`CredentialError`] if no consumer holds the token, or it is no longer valid.
    pub fn find(&self, token: &[u8], now: SystemTime) -> Result<(ConsumerId, &Name, bool), CredentialError> {
        let entry = self.token(&Self::digest(token)).ok_or(CredentialError::Unknown)?;
        if let Some(dead) = entry.dead {
            return Err(CredentialError::Ended(dead));
        }
        if entry.expires.is_some_and(|end| end <= now) {
            return Err(CredentialError::Ended(Ended::Expired));
        }
        let consumer = self.consumer(entry.consumer()).ok_or(CredentialError::Unknown)?;
        if let Some(record) = &entry.record {
            record.used.store(seconds(now), Ordering::Relaxed);
        }
        Ok((entry.consumer(), &consumer.name, entry.stored))
    }

    /// The tokens of the store that were used, with the time of the last use in seconds since 1970.
    pub fn used(&self) -> impl Iterator<Item = (Uuid, i64)> {
        self.tokens.iter().filter_map(|entry| {
            let record = entry.record.as_ref()?;
            let used = record.used.load(Ordering::Relaxed);
            (used > 0).then_some((record.id, used))
        })
    }

    /// The access keys that were used, with the time of the last use in seconds since 1970.
    pub fn used_keys(&self) -> impl Iterator<Item = (Uuid, i64)> {
        let used = |entry: &access_key::TokenEntry| (entry.key.id, entry.used.load(Ordering::Relaxed));
        self.keys.values().map(used).filter(|(_, used)| *used > 0)
    }

    /// All consumers, in the order of their indices.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    /// The consumer with this id.
    #[must_use]
    pub fn consumer(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(id.index())
    }

    /// The id of the consumer called `name`.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<ConsumerId> {
        let has_name = |place: &usize| name_at(&self.consumers, *place) == name;
        self.places.find(self.names.hash_one(name), has_name).copied().map(ConsumerId::new)
    }
}

fn name_at(consumers: &[Consumer], place: usize) -> &str {
    consumers.get(place).map(|consumer| consumer.name.as_str()).unwrap_or_default()
}

/// Hashes a digest by its first bytes, which are as good as random. A caller's bytes are only looked up,
/// and never inserted.
fn hash_of(digest: &[u8; 32]) -> u64 {
    digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn directory(tokens: &[(&[u8], Option<u128>)]) -> Directory {
        let issued = |(token, id): &(&[u8], Option<u128>)| TokenRecord {
            id: id.map(Uuid::from_u128),
            ..Directory::digest(token).into()
        };
        let tokens = tokens.iter().map(issued).collect();
        Directory::new(vec![(Consumer::new(Name::parse("tool").unwrap()), tokens)]).unwrap()
    }

    fn used(directory: &Directory) -> Vec<(u128, i64)> {
        let mut used: Vec<_> = directory.used().map(|(id, at)| (id.as_u128(), at)).collect();
        used.sort_unstable();
        used
    }

    #[test]
    fn a_token_is_one_consumers() {
        let named = |name| Consumer::new(Name::parse(name).unwrap());
        let token = || TokenRecord::from(Directory::digest(b"one"));
        let twice = Directory::new(vec![(named("tool"), vec![token(), token()])]).unwrap();
        assert!(matches!(twice.find(b"one", UNIX_EPOCH), Ok((first, ..)) if first.index() == 0));
        let both = Directory::new(vec![(named("tool"), vec![token()]), (named("other"), vec![token()])]);
        let (one, other) = *both.unwrap_err();
        assert_eq!((one.as_str(), other.as_str()), ("tool", "other"));
    }

    /// A call in flight uses the former directory after another has replaced it.
    #[test]
    fn what_a_former_directory_sees_is_known_to_the_next() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let former = directory(&[(b"one", Some(1)), (b"two", Some(2)), (b"gone", Some(3)), (b"file", None)]);
        assert!(former.find(b"one", at(10)).is_ok());
        let next = directory(&[(b"one", Some(1)), (b"two", Some(2)), (b"file", None)]).after(&former);
        assert_eq!(used(&next), [(1, 10)]);
        for token in [b"two" as &[u8], b"gone", b"file"] {
            assert!(former.find(token, at(20)).is_ok());
        }
        assert_eq!(used(&next), [(1, 10), (2, 20)]);
        // A token that was issued anew under the same digest is a different token.
        let other = directory(&[(b"one", Some(7))]).after(&next);
        assert_eq!(used(&other), []);
    }
}
