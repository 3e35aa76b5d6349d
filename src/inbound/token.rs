//! The tokens that claviger issues: `clv_`, 30 random letters and digits, and 6 that are a checksum of them.
//!
//! The checksum proves nothing. A scanner of repositories can use it to tell a token of claviger from a look-alike
//! without a query. It is the CRC-32 (IEEE) of the 30 in base 62, which other token issuers use too.

use std::io;

use crate::secret::Secret;

/// The prefix of every token.
pub const PREFIX: &str = "clv_";

/// The number of random letters and digits in a token: 178 bits.
const RANDOM: usize = 30;
/// The number of letters and digits in an access key's secret.
const SECRET: usize = 36;
/// The number of letters and digits in a token's checksum.
const CHECKSUM: usize = 6;
/// The digits of base 62, by value.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The greatest multiple of 62 that fits in a byte. Random bytes from here on are rejected, since they would
/// favour some digits.
const FAIR: u8 = 248;

/// Generates a token.
///
/// # Errors
/// If the system gives no random bytes.
pub fn fresh() -> io::Result<Secret> {
    from(system)
}

/// Generates the secret of an access key: 36 letters and digits, 214 bits, in the form of `JumpServer`'s.
///
/// # Errors
/// If the system gives no random bytes.
pub fn fresh_secret() -> io::Result<Secret> {
    letters(SECRET, system)
}

fn system(bytes: &mut [u8]) -> io::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| io::Error::other("no random bytes"))
}

/// Whether `text` has the form of a token, checksum included. It does not tell whether the token was ever issued.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else { return false };
    if rest.len() != RANDOM + CHECKSUM || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return false;
    }
    rest.split_at_checked(RANDOM).is_some_and(|(random, sum)| checksum(random.as_bytes()) == sum.as_bytes())
}

fn from(fill: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<Secret> {
    let mut token = Vec::with_capacity(PREFIX.len() + RANDOM + CHECKSUM);
    token.extend_from_slice(PREFIX.as_bytes());
    let random = letters(RANDOM, fill)?;
    token.extend_from_slice(random.expose());
    token.extend_from_slice(&checksum(random.expose()));
    Ok(Secret::new(token))
}

/// Generates `count` random letters and digits.
fn letters(count: usize, mut fill: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<Secret> {
    let mut random = Vec::with_capacity(count);
    while random.len() < count {
        let mut byte = [0];
        fill(&mut byte)?;
        let [byte] = byte;
        random.extend((byte < FAIR).then(|| digit(byte % 62)));
    }
    Ok(Secret::new(random))
}

fn checksum(random: &[u8]) -> [u8; CHECKSUM] {
    let mut left = crc32fast::hash(random);
    let mut text = [b'0'; CHECKSUM];
    for place in text.iter_mut().rev() {
        *place = digit(u8::try_from(left % 62).unwrap_or(0));
        left /= 62;
    }
    text
}

fn digit(value: u8) -> u8 {
    DIGITS.get(usize::from(value)).copied().unwrap_or(b'0')
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Pairs of random part and checksum. The first is published by another issuer; the others come from zlib.
    const VECTORS: [(&str, &str); 5] = [
        ("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ", "0mLq17"),
        ("000000000000000000000000000000", "2C8GjS"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "0uCPlr"),
        ("0123456789ABCDEFGHIJKLMNOPQRST", "4PMbyp"),
        ("WXYZabcdefghijklmnopqrstuvwxyz", "4YnbUa"),
    ];

    #[test]
    fn the_checksum_is_the_one_that_others_compute() {
        for (random, sum) in VECTORS {
            assert_eq!(checksum(random.as_bytes()), sum.as_bytes(), "{random}");
            assert!(is_well_formed(&format!("clv_{random}{sum}")));
            assert!(!is_well_formed(&format!("{random}{sum}")));
            assert!(!is_well_formed(&format!("clv_{random}")));
            assert!(!is_well_formed(&format!("clv_{random}{sum}0")));
        }
        assert!(!is_well_formed("clv_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAB0uCPlr"), "one letter is wrong");
        assert!(!is_well_formed("clv_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAé0uCPl"));
    }

    #[test]
    fn no_digit_is_favoured() {
        let mut next = 0_u8;
        let mut source = |bytes: &mut [u8]| {
            for byte in bytes {
                (*byte, next) = (next, next.wrapping_add(1));
            }
            Ok(())
        };
        // All 256 values of a byte make 8 tokens and 8 letters of the ninth, with each digit exactly four times.
        let tokens: Vec<Secret> = (0..9).map(|_| from(&mut source).unwrap()).collect();
        let letters: Vec<u8> =
            tokens.iter().flat_map(|token| token.expose().get(4..34).unwrap()).copied().collect();
        for digit in DIGITS {
            assert_eq!(letters.iter().take(248).filter(|letter| *letter == digit).count(), 4, "{digit}");
        }
    }

    #[test]
    fn fresh_ones_are_well_formed_and_differ() {
        let (one, other) = (fresh().unwrap(), fresh().unwrap());
        assert!(is_well_formed(std::str::from_utf8(one.expose()).unwrap()));
        assert!(is_well_formed(std::str::from_utf8(other.expose()).unwrap()));
        assert_ne!(one.expose(), other.expose());
    }
}
