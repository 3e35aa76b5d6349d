//! Token digests → consumers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::name::Name;

/// A consumer as the directory knows it.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Its name.
    pub name: Name,
    /// Requests a minute, over all workers; none where absent.
    pub requests_per_minute: Option<u32>,
    /// Requests in flight, over all workers; none where absent.
    pub concurrency: Option<u32>,
}

impl Consumer {
    /// A consumer without limits of its own.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self { name, requests_per_minute: None, concurrency: None }
    }
}

/// Every consumer, found by the SHA-256 of a token. Tokens themselves are never kept.
#[derive(Debug, Default)]
pub struct Directory {
    consumers: Vec<Consumer>,
    digests: HashMap<[u8; 32], usize>,
}

impl Directory {
    /// Builds the directory from consumers and the digests of their tokens.
    ///
    /// # Errors
    /// The two names, where two consumers have one token.
    pub fn new(entries: Vec<(Consumer, Vec<[u8; 32]>)>) -> Result<Self, (Name, Name)> {
        let mut directory = Self::default();
        for (consumer, digests) in entries {
            for digest in digests {
                match directory.digests.entry(digest) {
                    Entry::Vacant(slot) => {
                        slot.insert(directory.consumers.len());
                    }
                    Entry::Occupied(slot) => {
                        if let Some(other) = directory.consumers.get(*slot.get()) {
                            return Err((other.name.clone(), consumer.name));
                        }
                    }
                }
            }
            directory.consumers.push(consumer);
        }
        Ok(directory)
    }

    /// The digest under which `token` is kept.
    #[must_use]
    pub fn digest(token: &[u8]) -> [u8; 32] {
        Sha256::digest(token).into()
    }

    /// The consumer that holds `token`. What the look-up's time tells is about the digest of what
    /// was sent, which nobody can steer; the match itself is compared in constant time.
    #[must_use]
    pub fn find(&self, token: &[u8]) -> Option<(usize, &Consumer)> {
        let digest = Self::digest(token);
        let (kept, place) = self.digests.get_key_value(&digest)?;
        bool::from(kept.ct_eq(&digest)).then_some(())?;
        self.consumers.get(*place).map(|consumer| (*place, consumer))
    }

    /// The consumer at `place`.
    #[must_use]
    pub fn consumer(&self, place: usize) -> Option<&Consumer> {
        self.consumers.get(place)
    }

    /// The place of the consumer called `name`.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.consumers.iter().position(|consumer| consumer.name.as_str() == name)
    }
}
