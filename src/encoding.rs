//! Hexadecimal text (RFC 4648 §8), in lower case.

/// The two digits of every byte value.
const PAIRS: [[u8; 2]; 256] = pairs();

#[expect(clippy::indexing_slicing, reason = "evaluated when compiled: out of bounds would not build")]
const fn pairs() -> [[u8; 2]; 256] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
}

/// Returns the two digits of a byte.
#[must_use]
pub fn hex_pair(byte: u8) -> [u8; 2] {
    PAIRS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Formats bytes as hexadecimal text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| hex_pair(*byte)).map(char::from).collect()
}

/// Parses `N` bytes from hexadecimal text, in upper or lower case; `None` if it has another length or other characters.
#[must_use]
pub fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_formatted_is_parsed_again() {
        let bytes: [u8; 256] = std::array::from_fn(|byte| u8::try_from(byte).unwrap_or_default());
        assert_eq!(parse_hex(&hex(&bytes)), Some(bytes));
        assert_eq!((hex(b"\0\xff"), hex(b"")), ("00ff".to_owned(), String::new()));
        assert_eq!(parse_hex("0AfF"), Some([0x0a, 0xff]));
        for wrong in ["", "0", "00f", "00ff0", "00ff00", "+0ff", "0 ff", "é0", "00fg"] {
            assert_eq!(parse_hex::<2>(wrong), None, "{wrong}");
        }
    }
}
