//! Secret bytes: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes in memory. No `Display`, no `Clone`; `Debug` says only that it is one.
///
/// ```compile_fail
/// let secret = claviger::secret::Secret::new(b"hunter2".to_vec());
/// println!("{secret}");
/// ```
/// ```
/// let secret = claviger::secret::Secret::new(b"hunter2".to_vec());
/// println!("{secret:?}");
/// assert!(!format!("{secret:?}").contains("hunter2"));
/// ```
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes custody of `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Every call of this is a place to look at in review.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
