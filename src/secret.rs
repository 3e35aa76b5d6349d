//! Secret bytes that are wiped when dropped, and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// Secret bytes in memory. There is no `Display` and no `Clone`; `Debug` shows only that it is a secret.
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

    /// The bytes of the secret. A review should look at every call of this.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the secret without the line end that an editor appends.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        let line = self.0.strip_suffix(b"\n").unwrap_or(&self.0);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
