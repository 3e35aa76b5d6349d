//! Replay protection for signatures that may be used only once: a nonce is remembered for its window and refused when
//! it is used again.
//!
//! The trail is the memory that outlives the process. The intent of such a call names the signature's nonce and is
//! recorded before the call is sent. At start, the gateway reads the recently used nonces from the trail.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

/// The length of a nonce in bytes.
pub(super) const NONCE_LEN: usize = 16;
/// The greatest numbers of remembered nonces: of all keys, and of one key.
const MOST: usize = 1_000_000;
const MOST_OF_A_KEY: usize = MOST / 8;
/// Below this number of nonces, expired ones are not removed.
const FEW: usize = 1024;
/// After a table was full, how long the next search for expired nonces waits.
const LATER: Duration = Duration::from_secs(1);

/// The identification of a signature that may be used only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nonce {
    /// The id of the access key.
    pub key: Uuid,
    /// A digest of key and signature, which identifies the signature.
    pub nonce: [u8; NONCE_LEN],
    /// The signed `Date`; `None` if it is not a valid date.
    pub dated: Option<SystemTime>,
    /// How far the date may be from the present time.
    pub window: Duration,
}

impl Nonce {
    /// The nonce as text (base64url).
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.nonce)
    }
}

/// The reason why such a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayError {
    /// The `Date` of the signature is not a date, or is too far from the present time.
    Stale,
    /// The signature was used before.
    Used,
    /// Soon after a start, the gateway does not know yet which signatures were used before.
    Unknown,
    /// There is no room for another nonce.
    Full,
}

/// The used nonces, until their windows end.
#[derive(Debug, Default)]
pub struct ReplayCache(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// The tables by key, so that no key can use all the room.
    keys: HashMap<Uuid, Table>,
    /// The number of nonces of all keys.
    count: usize,
    /// The nonces that the trail named at start, with the ends of their windows.
    former: HashMap<[u8; NONCE_LEN], SystemTime>,
    /// Signatures dated before this time may have been used already.
    unknown_before: Option<SystemTime>,
}

/// The used nonces of one key.
#[derive(Debug, Default)]
struct Table {
    until: HashMap<[u8; NONCE_LEN], SystemTime>,
    /// The number of nonces at which expired ones are removed, so that the cost is rarely paid.
    tidy_at: usize,
    /// Set when the table was full: it is not searched for room again before this time.
    full: Option<SystemTime>,
}

impl Table {
    /// Whether there is room for another nonce besides `others` nonces of other keys.
    fn has_room(&mut self, now: SystemTime, others: usize) -> bool {
        let most = MOST_OF_A_KEY.min(MOST.saturating_sub(others));
        if self.until.len() < self.tidy_at.max(FEW).min(most) {
            return true;
        }
        if self.full.is_some_and(|full| now < full && full <= now + LATER) {
            return false;
        }
        self.until.retain(|_, until| *until >= now);
        self.until.shrink_to(2 * self.until.len());
        self.tidy_at = 2 * self.until.len();
        let room = self.until.len() < most;
        self.full = (!room).then_some(now + LATER);
        room
    }
}

impl ReplayCache {
    /// Consumes a signature, so that it cannot be used again.
    ///
    /// # Errors
    /// [`ReplayError`] if the date is invalid or too far away, the signature was used or may have been, or there
    /// is no room.
    pub fn take(&self, once: &Nonce, now: SystemTime) -> Result<(), ReplayError> {
        let dated = once.dated.ok_or(ReplayError::Stale)?;
        let apart = now.duration_since(dated).unwrap_or_else(|ahead| ahead.duration());
        if apart > once.window {
            return Err(ReplayError::Stale);
        }
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = &mut *guard;
        if used.unknown_before.is_some_and(|blind| dated < blind) {
            return Err(ReplayError::Unknown);
        }
        if used.former.contains_key(&once.nonce) {
            return Err(ReplayError::Used);
        }
        let table = used.keys.entry(once.key).or_default();
        let others = used.count - table.until.len();
        if !table.has_room(now, others) {
            used.count = others + table.until.len();
            return Err(ReplayError::Full);
        }
        // One second more, so that a nonce is not forgotten at the moment when its signature is still valid.
        let before = table.until.insert(once.nonce, dated + once.window + Duration::from_secs(1));
        used.count = others + table.until.len();
        before.map_or(Ok(()), |_| Err(ReplayError::Used))
    }

    /// Remembers a nonce from the trail until the given time.
    pub fn remember(&self, text: &str, until: SystemTime) {
        let decoded = URL_SAFE_NO_PAD.decode(text).ok();
        if let Some(nonce) = decoded.and_then(|bytes| <[u8; NONCE_LEN]>::try_from(bytes).ok()) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).former.insert(nonce, until);
        }
    }

    /// Removes expired nonces that came from the trail. The caller calls it from time to time.
    pub fn tidy(&self, now: SystemTime) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !used.former.is_empty() && used.former.values().all(|until| *until < now) {
            used.former = HashMap::new();
        }
    }

    /// Declares that nonces of signatures dated before `until` are not known.
    pub fn forget(&self, until: SystemTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unknown_before = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_mins(5);

    fn once(nonce: u8, dated: u64) -> Nonce {
        let dated = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(dated));
        Nonce { key: Uuid::nil(), nonce: [nonce; NONCE_LEN], dated, window: WINDOW }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_signature_is_good_once_and_within_its_window() {
        let nonces = ReplayCache::default();
        assert_eq!(nonces.take(&once(1, 1000), at(1000)), Ok(()));
        assert_eq!(nonces.take(&once(1, 1000), at(1300)), Err(ReplayError::Used));
        assert_eq!(nonces.take(&once(2, 1000), at(1300)), Ok(()));
        assert_eq!(nonces.take(&once(3, 1000), at(1301)), Err(ReplayError::Stale));
        assert_eq!(nonces.take(&once(3, 1301), at(1000)), Err(ReplayError::Stale));
        assert_eq!(nonces.take(&Nonce { dated: None, ..once(3, 0) }, at(1000)), Err(ReplayError::Stale));
        assert_eq!(nonces.take(&once(3, 1300), at(1000)), Ok(()));
    }

    #[test]
    fn what_the_trail_names_is_used_and_what_it_cannot_tell_waits() {
        let nonces = ReplayCache::default();
        nonces.remember(&once(1, 1000).to_text(), at(1400));
        nonces.remember("not a nonce", at(1400));
        assert_eq!(nonces.take(&once(1, 1000), at(1001)), Err(ReplayError::Used));
        assert_eq!(nonces.take(&once(2, 1000), at(1001)), Ok(()));
        nonces.tidy(at(1400));
        assert_eq!(nonces.take(&once(1, 1000), at(1001)), Err(ReplayError::Used));
        nonces.tidy(at(1401));
        assert_eq!(nonces.take(&once(1, 1000), at(1001)), Ok(()));
        nonces.forget(at(1061));
        assert_eq!(nonces.take(&once(3, 1060), at(1060)), Err(ReplayError::Unknown));
        assert_eq!(nonces.take(&once(3, 1061), at(1061)), Ok(()));
    }

    fn numbered(number: usize) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        nonce
    }

    #[test]
    fn there_is_room_for_so_many_of_a_key_and_what_is_over_makes_room() {
        let nonces = ReplayCache::default();
        for number in 0..MOST_OF_A_KEY {
            assert_eq!(nonces.take(&Nonce { nonce: numbered(number), ..once(0, 1000) }, at(1000)), Ok(()));
        }
        assert_eq!(nonces.take(&once(255, 1000), at(1000)), Err(ReplayError::Full));
        // Each key has room of its own.
        let other = Nonce { key: Uuid::max(), ..once(255, 1000) };
        assert_eq!(nonces.take(&other, at(1000)), Ok(()));
        assert_eq!(nonces.take(&once(255, 1302), at(1302)), Ok(()));
        let used = nonces.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(used.count, 2);
        assert!(used.keys.values().all(|table| table.until.capacity() < 4 * FEW));
    }

    #[test]
    fn all_keys_together_have_room_for_no_more() {
        let nonces = ReplayCache::default();
        for number in 0..MOST {
            let key = Uuid::from_u128((number % 16) as u128);
            assert_eq!(
                nonces.take(&Nonce { key, nonce: numbered(number), ..once(0, 1000) }, at(1000)),
                Ok(())
            );
        }
        let key = Uuid::max();
        assert_eq!(nonces.take(&Nonce { key, ..once(255, 1000) }, at(1000)), Err(ReplayError::Full));
    }

    #[test]
    fn what_is_over_does_not_pile_up() {
        let nonces = ReplayCache::default();
        for second in 0..100_000 {
            let dated = second as u64;
            assert_eq!(nonces.take(&Nonce { nonce: numbered(second), ..once(0, dated) }, at(dated)), Ok(()));
        }
        let kept = nonces.0.lock().unwrap_or_else(PoisonError::into_inner).count;
        assert!(kept <= FEW, "{kept} of 302 that are not over");
    }
}
