//! The nonces of one-time signatures that the trail has recorded.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use memchr::memmem;

use super::event::Event;
use super::segment::{open, read_line, segments};

/// The largest number of bytes of the trail that are searched. More would delay a start by seconds.
const MOST: u64 = 1 << 30;

/// Reads the nonces of the intents in `dir` since the time `since`, and passes each with its time to `note`.
///
/// Returns false if the trail cannot be read back to that time: it is too long, or its beginning is elsewhere.
///
/// # Errors
/// An I/O error if the trail cannot be read.
pub fn recent_nonces(
    dir: &Path,
    since: SystemTime,
    mut note: impl FnMut(&str, SystemTime),
) -> io::Result<bool> {
    let (mut left, mut whole) = (MOST, false);
    let finder = memmem::Finder::new(br#","nonce":""#);
    for path in segments(dir)?.into_iter().rev() {
        let Some(rest) = left.checked_sub(fs::metadata(&path)?.len()) else { return Ok(false) };
        left = rest;
        let mut begins = None;
        let (mut reader, mut line) = (open(&path)?, Vec::new());
        while read_line(&mut reader, &mut line)? > 0 {
            if begins.is_none() || finder.find(&line).is_some() {
                // A torn line lacks its end. Recovery reports it at the next start.
                if let Some(event) = Event::parse(&line)
                    && let Some(time) = event.timestamp().map(SystemTime::from)
                {
                    whole |= event.seq <= 1;
                    begins.get_or_insert(time);
                    if let Some(nonce) = event.nonce.filter(|_| time >= since) {
                        note(&nonce, time);
                    }
                }
            }
        }
        if begins.is_some_and(|begins| begins < since) {
            return Ok(true);
        }
    }
    Ok(whole)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(dir: &Path, since: u64) -> Vec<String> {
        let mut found = Vec::new();
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
        assert!(recent_nonces(dir, since, |nonce, _| found.push(nonce.to_owned())).unwrap());
        found.sort();
        found
    }

    #[test]
    fn reads_back_as_far_as_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let line = |second: u32, nonce: &str| {
            format!(
                "{{\"seq\":{},\"time\":\"1970-01-01T00:00:{second:02}.000000Z\",\"event\":\"intent\"{nonce}}}\n",
                second + 1
            )
        };
        let nonce = |name: &str| format!(",\"nonce\":\"{name}\"");
        let names = ["1970-01-01T00-00-00Z-1.jsonl", "1970-01-01T00-00-10Z-9.jsonl"];
        let first = line(0, "") + &line(5, &nonce("a")) + &line(9, &nonce("b"));
        let second =
            line(10, &nonce("c")) + &line(20, "") + "{\"time\":\"1970-01-01T00:00:30Z\",\"nonce\":\"tor";
        fs::write(folder.path().join(names[0]), first).unwrap();
        fs::write(folder.path().join(names[1]), second).unwrap();
        assert_eq!(found(folder.path(), 0), ["a", "b", "c"]);
        assert_eq!(found(folder.path(), 9), ["b", "c"]);
        assert_eq!(found(folder.path(), 10), ["c"]);
        assert_eq!(found(folder.path(), 11), Vec::<String>::new());
        // Without its beginning, the trail does not show which events came before it.
        fs::remove_file(folder.path().join(names[0])).unwrap();
        let is_complete = |since| {
            let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
            recent_nonces(folder.path(), since, |_, _| {}).unwrap()
        };
        assert!(is_complete(11) && !is_complete(9));
    }
}
