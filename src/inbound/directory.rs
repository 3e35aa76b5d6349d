//! Token digests and access keys → consumers.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use hashbrown::HashTable;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::Proven;
use super::access_key::{self, AccessKey, SignatureError};
use crate::name::Name;
use crate::secret::Secret;
use crate::signature::{Message, VerifyingKey};

/// A consumer as the directory knows it.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Its name.
    pub name: Name,
    /// Requests a minute, over all workers; none where absent.
    pub requests_per_minute: Option<u32>,
    /// Requests in flight, over all workers; none where absent.
    pub concurrency: Option<u32>,
    /// Whether none of its tokens is good for now.
    pub disabled: bool,
    /// Whether the store holds it, whatever the file says.
    pub stored: bool,
}

impl Consumer {
    /// A consumer without limits of its own.
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
    /// Its id in the store; none where the file declares it.
    pub id: Option<Uuid>,
    /// When it ends.
    pub expires: Option<SystemTime>,
    /// Why it is not good any more, whatever the time.
    pub dead: Option<Ended>,
}

/// Why a token that was ours is not good any more. For the trail alone: the caller is told what
/// everybody is told who has no good token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its time has come.
    Expired,
    /// It was revoked.
    Revoked,
    /// Its consumer is disabled.
    Disabled,
}

impl From<[u8; 32]> for TokenRecord {
    fn from(digest: [u8; 32]) -> Self {
        Self { digest, id: None, expires: None, dead: None }
    }
}

/// Every consumer, found by the SHA-256 of a token. Tokens themselves are never kept.
#[derive(Debug, Default)]
pub struct Directory {
    consumers: Vec<Consumer>,
    /// Places of consumers, by their names.
    places: HashTable<usize>,
    names: RandomState,
    tokens: HashTable<TokenEntry>,
    keys: HashMap<Uuid, access_key::TokenEntry>,
}

/// A token and its holder, in one cache line, since a call seldom finds it near.
#[derive(Debug)]
#[repr(align(64))]
struct TokenEntry {
    digest: [u8; 32],
    consumer: u32,
    dead: Option<Ended>,
    /// Whether it or its consumer is the store's.
    stored: bool,
    expires: Option<SystemTime>,
    /// None where the file declares it.
    own: Option<Arc<StoredToken>>,
}

impl TokenEntry {
    fn place(&self) -> usize {
        usize::try_from(self.consumer).unwrap_or(usize::MAX)
    }
}

/// What is kept of a token of the store, by all directories that know it: a call may look into a former
/// one, and all count.
#[derive(Debug)]
struct StoredToken {
    id: Uuid,
    /// When it was last presented, in seconds since 1970; 0 for not since the first of the directories.
    used: AtomicI64,
}

/// Who holds a token.
#[derive(Debug)]
pub enum TokenMatch<'d> {
    /// This consumer, at its place; and whether it or the token is the store's.
    Consumer(usize, &'d Name, bool),
    /// A consumer whose token is not good any more.
    Dead(Ended),
    /// Nobody.
    Nobody,
}

impl Directory {
    /// Builds the directory from consumers and their tokens.
    ///
    /// # Errors
    /// The two names, where two consumers have one token.
    pub fn new(entries: Vec<(Consumer, Vec<TokenRecord>)>) -> Result<Self, Box<(Name, Name)>> {
        let mut directory = Self::default();
        directory.consumers.reserve_exact(entries.len());
        directory.places.reserve(entries.len(), |_| 0);
        directory.tokens.reserve(entries.iter().map(|(_, tokens)| tokens.len()).sum(), |_| 0);
        for (consumer, tokens) in entries {
            let place = directory.consumers.len();
            for TokenRecord { digest, id, expires, dead } in tokens {
                if let Some(held) = directory.token(&digest) {
                    match directory.consumers.get(held.place()) {
                        Some(other) => return Err(Box::new((other.name, consumer.name))),
                        // Its own, once more.
                        None => continue,
                    }
                }
                let own = id.map(|id| Arc::new(StoredToken { id, used: AtomicI64::default() }));
                let stored = own.is_some() || consumer.stored;
                // No machine has room for so many that their places do not fit.
                let place = u32::try_from(place).unwrap_or(u32::MAX);
                let held = TokenEntry { digest, consumer: place, dead, stored, expires, own };
                directory.tokens.insert_unique(hash_of(&digest), held, |held| hash_of(&held.digest));
            }
            directory.consumers.push(consumer);
            let Self { consumers, places, names, .. } = &mut directory;
            let hash = |place: &usize| names.hash_one(name_at(consumers, *place));
            places.insert_unique(hash(&place), place, hash);
        }
        Ok(directory)
    }

    /// The same with these access keys, each of the consumer at this place.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = (usize, AccessKey)>) -> Self {
        let held = |(consumer, key): (usize, AccessKey)| {
            (key.id, access_key::TokenEntry { consumer, key, used: Arc::default() })
        };
        self.keys.extend(keys.into_iter().map(held));
        self
    }

    /// What the signatures of the access key with this id are verified with.
    #[must_use]
    pub fn verifying(&self, id: &Uuid) -> Option<Arc<VerifyingKey>> {
        self.keys.get(id).map(|held| Arc::clone(&held.key.key))
    }

    /// The longest window of keys whose signatures are good once; none where there are none such.
    #[must_use]
    pub fn strictness(&self) -> Option<Duration> {
        self.keys.values().filter_map(|held| held.key.strict).max()
    }

    /// Whose signature this is: the consumer at its place, the key's id, and what is to be used up.
    pub(super) fn prove(
        &self,
        sent: &Secret,
        message: Message<'_>,
        now: SystemTime,
    ) -> Result<(usize, &Consumer, Proven), SignatureError> {
        let (held, once) = access_key::prove(sent, message, &self.keys, now)?;
        let consumer = self.consumers.get(held.consumer);
        let consumer = consumer.ok_or(SignatureError::BadSignature("access key of nobody", false))?;
        held.used.store(seconds(now), Ordering::Relaxed);
        Ok((held.consumer, consumer, Proven { key: held.key.id, once }))
    }

    /// Why a signature does not verify, for the trail. Far more work than finding that it does not.
    #[must_use]
    pub fn explain(&self, sent: &Secret, message: Message<'_>) -> Option<String> {
        access_key::explain(sent, message, &self.keys)
    }

    /// The directory that takes the place of `former`: what is known of the use of tokens goes on, and
    /// whoever still looks into the former one adds to it.
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        for TokenEntry { digest, own, .. } in &mut self.tokens {
            let Some(own) = own else { continue };
            if let Some(before) = former.token(digest).and_then(|held| held.own.as_ref())
                && before.id == own.id
            {
                *own = Arc::clone(before);
            }
        }
        for (id, held) in &mut self.keys {
            if let Some(before) = former.keys.get(id) {
                held.used = Arc::clone(&before.used);
            }
        }
        self
    }

    /// The digest under which `token` is kept.
    #[must_use]
    pub fn digest(token: &[u8]) -> [u8; 32] {
        Sha256::digest(token).into()
    }

    fn token(&self, digest: &[u8; 32]) -> Option<&TokenEntry> {
        self.tokens.find(hash_of(digest), |held| held.digest.ct_eq(digest).into())
    }

    /// Who holds `token`. What the look-up's time tells is about the digest of what was sent, which
    /// nobody can steer; the match itself is compared in constant time.
    #[must_use]
    pub fn find(&self, token: &[u8], now: SystemTime) -> TokenMatch<'_> {
        let Some(held) = self.token(&Self::digest(token)) else { return TokenMatch::Nobody };
        if let Some(dead) = held.dead {
            return TokenMatch::Dead(dead);
        }
        if held.expires.is_some_and(|end| end <= now) {
            return TokenMatch::Dead(Ended::Expired);
        }
        let Some(consumer) = self.consumers.get(held.place()) else { return TokenMatch::Nobody };
        if let Some(own) = &held.own {
            own.used.store(seconds(now), Ordering::Relaxed);
        }
        TokenMatch::Consumer(held.place(), &consumer.name, held.stored)
    }

    /// The tokens of the store that were presented, and when last, in seconds since 1970.
    pub fn used(&self) -> impl Iterator<Item = (Uuid, i64)> {
        self.tokens.iter().filter_map(|held| {
            let own = held.own.as_ref()?;
            let used = own.used.load(Ordering::Relaxed);
            (used > 0).then_some((own.id, used))
        })
    }

    /// The access keys that were used, and when last, in seconds since 1970.
    pub fn used_keys(&self) -> impl Iterator<Item = (Uuid, i64)> {
        let used = |held: &access_key::TokenEntry| (held.key.id, held.used.load(Ordering::Relaxed));
        self.keys.values().map(used).filter(|(_, used)| *used > 0)
    }

    /// Every consumer, in the order of their places.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    /// The consumer at `place`.
    #[must_use]
    pub fn consumer(&self, place: usize) -> Option<&Consumer> {
        self.consumers.get(place)
    }

    /// The place of the consumer called `name`.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        let named = |place: &usize| name_at(&self.consumers, *place) == name;
        self.places.find(self.names.hash_one(name), named).copied()
    }
}

fn name_at(consumers: &[Consumer], place: usize) -> &str {
    consumers.get(place).map(|consumer| consumer.name.as_str()).unwrap_or_default()
}

fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(0)
}

/// Digests are as good as random. What callers send is only looked up, and never made part of the table.
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
        assert!(matches!(twice.find(b"one", UNIX_EPOCH), TokenMatch::Consumer(0, ..)));
        let both = Directory::new(vec![(named("tool"), vec![token()]), (named("other"), vec![token()])]);
        let (one, other) = *both.unwrap_err();
        assert_eq!((one.as_str(), other.as_str()), ("tool", "other"));
    }

    /// A call in flight looks into the former directory while another has taken its place.
    #[test]
    fn what_a_former_directory_sees_is_known_to_the_next() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let former = directory(&[(b"one", Some(1)), (b"two", Some(2)), (b"gone", Some(3)), (b"file", None)]);
        assert!(matches!(former.find(b"one", at(10)), TokenMatch::Consumer(..)));
        let next = directory(&[(b"one", Some(1)), (b"two", Some(2)), (b"file", None)]).after(&former);
        assert_eq!(used(&next), [(1, 10)]);
        for token in [b"two" as &[u8], b"gone", b"file"] {
            assert!(matches!(former.find(token, at(20)), TokenMatch::Consumer(..)));
        }
        assert_eq!(used(&next), [(1, 10), (2, 20)]);
        // One that was issued anew under the same digest is another.
        let other = directory(&[(b"one", Some(7))]).after(&next);
        assert_eq!(used(&other), []);
    }
}
