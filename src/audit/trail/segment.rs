//! The segment files of a trail: `audit-SEQ-TIME.jsonl`, and `.jsonl.zst` once a closed one was compressed.
//!
//! A compressed segment is plain zstd (RFC 8878). Its frames follow each other and hold complete lines, about 1 MiB
//! each. Any zstd tool reads it, and a line in the middle can be read without decompressing what is before it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::strtime;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};

use crate::fs::trust::if_found;

const PLAIN: &str = "jsonl";
const PACKED: &str = "zst";
/// Length limit of a line in bytes. A longer line was not written by a gateway, and is not read into memory.
const LONGEST_LINE: u64 = 1 << 20;
/// Number of bytes of a segment that are compressed into one frame.
const FRAME: usize = 1 << 20;
const MOMENT: &str = "%Y%m%dT%H%M%S.%6f";

/// Formats the name of a segment that begins with `seq` at `time`. Names sort in the order of the segments.
pub(in crate::audit) fn segment_name(seq: u64, time: SystemTime) -> String {
    let at = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("audit-{seq:012}-{}Z.{PLAIN}", at.strftime(MOMENT))
}

/// Parses the first `seq` and the time from a segment's name.
#[must_use]
pub fn parse_segment_name(path: &Path) -> Option<(u64, SystemTime)> {
    let rest = path.file_name()?.to_str()?.strip_prefix("audit-")?;
    let (seq, rest) = rest.split_once('-')?;
    let (moment, _) = rest.split_once('Z')?;
    let parsed = strtime::parse(MOMENT, moment).and_then(|parts| parts.to_datetime()).ok()?;
    let at = parsed.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some((seq.parse().ok()?, at.into()))
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension() == Some(OsStr::new(extension))
}

/// Whether the path is that of a compressed segment.
#[must_use]
pub fn is_compressed(path: &Path) -> bool {
    has_extension(path, PACKED)
}

/// Returns the name of a segment without its extensions, which is the same for the plain and the compressed file.
#[must_use]
pub fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split_once(".jsonl").map_or(name.as_ref(), |(stem, _)| stem).to_owned()
}

/// Returns the path of the compressed form of a segment.
pub(in crate::audit) fn compressed(path: &Path) -> PathBuf {
    path.with_extension(format!("{PLAIN}.{PACKED}"))
}

/// Lists the segments in `dir` in order. If a segment is there in both forms, because compression was interrupted, only
/// the plain one is listed.
///
/// # Errors
/// An I/O error if the folder cannot be read.
pub fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_plain = has_extension(&path, PLAIN);
        if is_plain
            || (is_compressed(&path)
                && path.file_stem().is_some_and(|stem| has_extension(stem.as_ref(), PLAIN)))
        {
            found.push(path);
        }
    }
    found.sort();
    // The plain file sorts first. It is the one to trust, since it was complete before the other.
    found.dedup_by(|later, former| stem(later) == stem(former));
    Ok(found)
}

/// Opens a segment for reading from its first byte, decompressed. Also finds a segment that was compressed
/// after it was listed.
///
/// # Errors
/// An I/O error if the file cannot be opened. Reading a damaged segment fails with [`io::ErrorKind::InvalidData`], or
/// with [`io::ErrorKind::UnexpectedEof`] if its end is missing.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_compressed(path) => {
            return decompress(File::open(compressed(path)).map_err(|_| error)?);
        }
        file => file?,
    };
    if is_compressed(path) { decompress(file) } else { Ok(Box::new(BufReader::with_capacity(1 << 16, file))) }
}

/// Opens a segment like [`open`], from the byte offset `at` of the decompressed content.
///
/// # Errors
/// The errors of [`open`], and an I/O error if the file is not seekable or readable up to `at`.
pub fn open_at(path: &Path, at: u64) -> io::Result<Box<dyn BufRead + Send>> {
    if !is_compressed(path)
        && let Ok(mut file) = File::open(path)
    {
        file.seek(SeekFrom::Start(at))?;
        return Ok(Box::new(BufReader::with_capacity(1 << 16, file)));
    }
    let mut reader = open(path)?;
    io::copy(&mut reader.by_ref().take(at), &mut io::sink())?;
    Ok(reader)
}

fn decompress(file: File) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(Box::new(BufReader::with_capacity(1 << 16, Decoder::new(file)?)))
}

/// Whether a read failed because of the content of a compressed segment, rather than because of the disk.
pub(in crate::audit) fn is_damage(error: &io::Error) -> bool {
    // The zstd library reports a bad frame as `Other` only.
    matches!(error.kind(), io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        && error.raw_os_error().is_none()
}

/// Reads the next line with its line feed into `line`. Returns the number of bytes, 0 at the end of the segment. A line
/// that is too long comes in pieces, the first of which has no line feed.
///
/// # Errors
/// The errors of the reader.
pub fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.take(LONGEST_LINE).read_until(b'\n', line)
}

/// Passes each complete line in `dir`, in order and without its line feed, to `take` while that returns true.
///
/// # Errors
/// An I/O error if a file cannot be read.
pub fn each_line(dir: &Path, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut bytes = Vec::new();
    for path in segments(dir)? {
        // A running gateway may have deleted the segment since the listing.
        let Some(mut reader) = if_found(open(&path))? else { continue };
        while read_line(&mut reader, &mut bytes)? > 0 {
            let Some(line) = bytes.strip_suffix(b"\n") else { break };
            if !take(line) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Passes each complete line of one segment to `take` while that returns true, as far as the segment can be read.
pub(in crate::audit) fn each_whole(path: &Path, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let (mut reader, mut line) = (open(path)?, Vec::new());
    loop {
        match read_line(&mut reader, &mut line) {
            Ok(0) => return Ok(()),
            Err(error) if is_damage(&error) => return Ok(()),
            read => read?,
        };
        if line.strip_suffix(b"\n").is_some_and(|whole| !take(whole)) {
            return Ok(());
        }
    }
}

/// Reads lines of one segment by their offsets.
pub struct SegmentReader {
    packed: Option<Vec<u8>>,
    file: BufReader<File>,
    /// The last decompressed frame: the offset of its first byte, and its content.
    frame: (u64, Vec<u8>),
}

impl SegmentReader {
    /// Opens the segment with this [`stem`] in `dir`.
    ///
    /// # Errors
    /// An I/O error if the segment cannot be read.
    pub fn of(dir: &Path, stem: &str) -> io::Result<Self> {
        let plain = dir.join(format!("{stem}.{PLAIN}"));
        let (packed, file) = match File::open(&plain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut file = File::open(compressed(&plain))?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                (Some(bytes), file)
            }
            file => (None, file?),
        };
        Ok(Self { packed, file: BufReader::new(file), frame: (0, Vec::new()) })
    }

    /// Reads the line that begins at the byte offset `at` of the decompressed segment. Returns it without the line feed
    /// at its end.
    ///
    /// # Errors
    /// An I/O error if the segment cannot be read, or has no complete line there.
    pub fn line(&mut self, at: u64) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if self.packed.is_some() {
            self.unpack(at)?;
            let from = usize::try_from(at - self.frame.0).map_err(io::Error::other)?;
            read_line(&mut self.frame.1.get(from..).unwrap_or_default(), &mut line)?;
        } else {
            self.file.seek(SeekFrom::Start(at))?;
            read_line(&mut self.file, &mut line)?;
        }
        if line.pop() == Some(b'\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Decompresses the frame that contains the offset `at`, unless it is the last decompressed one.
    fn unpack(&mut self, at: u64) -> io::Result<()> {
        let (from, bytes) = &self.frame;
        let len = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        if (*from..from + len).contains(&at) {
            return Ok(());
        }
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the compressed segment is damaged");
        let mut rest = self.packed.as_deref().unwrap_or_default();
        let mut begins = 0;
        while !rest.is_empty() {
            let frame = find_frame_compressed_size(rest).ok().and_then(|size| rest.split_at_checked(size));
            let (frame, after) = frame.ok_or_else(damaged)?;
            // A frame of another tool may lack its content size; it is then the only one.
            let size = get_frame_content_size(frame).ok().flatten();
            if size.is_none_or(|size| at < begins + size) {
                let mut unpacked = Vec::new();
                Decoder::new(frame)?.read_to_end(&mut unpacked)?;
                self.frame = (begins, unpacked);
                return Ok(());
            }
            begins += size.unwrap_or_default();
            rest = after;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Compresses everything that `reader` holds.
pub(in crate::audit) fn compress(reader: &mut impl BufRead, out: &mut impl io::Write) -> io::Result<()> {
    let mut frame = Vec::with_capacity(FRAME);
    loop {
        let read = reader.take(u64::try_from(FRAME).unwrap_or(u64::MAX)).read_to_end(&mut frame)?;
        // Extend the frame to the end of a line.
        reader.read_until(b'\n', &mut frame)?;
        if read == 0 {
            return Ok(());
        }
        out.write_all(&zstd::bulk::compress(&frame, zstd::DEFAULT_COMPRESSION_LEVEL)?)?;
        frame.clear();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_first_event_and_the_time() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_900_000_000_123_456);
        let name = segment_name(42, time);
        assert_eq!(parse_segment_name(Path::new(&name)), Some((42, time)), "{name}");
        assert_eq!(parse_segment_name(&compressed(Path::new(&name))), Some((42, time)));
        assert_eq!(stem(Path::new(&name)), stem(&compressed(Path::new(&name))));
        for other in ["audit-000000000001.jsonl", "audit-x-20260101T000000.000000Z.jsonl", "x"] {
            assert_eq!(parse_segment_name(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_line_is_found_in_the_middle_of_either_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit-000000000001-x.jsonl");
        let (mut text, mut places) = (Vec::new(), Vec::new());
        for number in 0..60_000 {
            places.push(u64::try_from(text.len()).unwrap());
            text.extend_from_slice(
                format!("line {number} of a segment that has several frames\n").as_bytes(),
            );
        }
        fs::write(&path, &text).unwrap();
        let look = |form: &str| {
            let mut lines = SegmentReader::of(dir.path(), "audit-000000000001-x").unwrap();
            for number in [0, 1, 59_999, 30_000, 29_999, 3] {
                let line = lines.line(*places.get(number).unwrap()).unwrap();
                let expected = format!("line {number} of a segment that has several frames");
                assert_eq!(String::from_utf8(line).unwrap(), expected, "{form}");
            }
            assert!(lines.line(u64::try_from(text.len()).unwrap()).is_err(), "{form}");
        };
        look("plain");
        let mut frames = Vec::new();
        compress(&mut text.as_slice(), &mut frames).unwrap();
        fs::write(compressed(&path), &frames).unwrap();
        assert_eq!(segments(dir.path()).unwrap(), [path.as_path()], "there twice, told once");
        fs::remove_file(&path).unwrap();
        look("several frames");
        let mut again = Vec::new();
        open(&path).unwrap().read_to_end(&mut again).unwrap();
        assert_eq!(again, text);
        fs::write(compressed(&path), zstd::encode_all(text.as_slice(), 1).unwrap()).unwrap();
        look("one frame without a size");
    }
}
