//! Detection of segments whose first event is not the one in their name. Such a file was put in place of a segment, or
//! added. The chain must not be continued from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::verified_line;
use super::event::Event;
use super::retired::RetiredStub;
use super::segment::{each_whole, parse_segment_name, segments};
use crate::fs::trust;

/// The first event of a segment that carries its own hash.
#[derive(Debug)]
pub(in crate::audit) struct First {
    /// The number of damaged lines before it.
    pub(in crate::audit) line: u64,
    pub(in crate::audit) seq: u64,
    pub(in crate::audit) prev: String,
}

impl First {
    /// Reads the first event of the segment at `path`; `None` if there is no such event, or the segment is gone.
    pub(in crate::audit) fn of(path: &Path) -> io::Result<Option<Self>> {
        let (mut first, mut line) = (None, 0);
        let read = each_whole(path, |whole| {
            if verified_line(whole).is_some()
                && let Some(Event { seq, prev: Some(prev), .. }) = Event::parse(whole)
            {
                first = Some(Self { line, seq, prev: (*prev).to_owned() });
            }
            line += 1;
            first.is_none()
        });
        // A running gateway may have deleted the segment since the listing.
        Ok(trust::if_found(read)?.and(first))
    }
}

/// Returns the `seq` of the first event of the segment at `path`, if it differs from the one in the name.
pub(in crate::audit) fn find_misnamed(path: &Path) -> io::Result<Option<u64>> {
    let named = parse_segment_name(path).map(|(seq, _)| seq);
    let is_named = |first: &First| named.and_then(|seq| seq.checked_add(first.line)) == Some(first.seq);
    Ok(First::of(path)?.filter(|first| !is_named(first)).map(|first| first.seq))
}

/// The segments of a folder, in order, sorted by whether their names are right.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Segments whose names match their content, as far as it can be read.
    pub segments: Vec<PathBuf>,
    /// The other segments, each with the `seq` of its first event.
    pub misnamed: Vec<(PathBuf, u64)>,
}

impl Sorted {
    /// Reads the beginning of each segment. A missing folder has no segments.
    ///
    /// # Errors
    /// An I/O error if a file cannot be read.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let mut sorted = Self::default();
        for path in trust::if_found(segments(dir))?.unwrap_or_default() {
            match find_misnamed(&path)? {
                Some(seq) => sorted.misnamed.push((path, seq)),
                None => sorted.segments.push(path),
            }
        }
        Ok(sorted)
    }
}

/// Whether `dir` has nothing of a trail: no segment, and no stub.
///
/// # Errors
/// An I/O error if the folder cannot be read.
pub fn is_empty(dir: &Path) -> io::Result<bool> {
    let Some(segments) = trust::if_found(segments(dir))? else { return Ok(true) };
    Ok(segments.is_empty() && RetiredStub::latest(dir)?.is_none())
}

/// Durably renames a file so that it is no longer a segment. Returns its new path, which ends in `.torn`.
///
/// # Errors
/// An I/O error if the file cannot be renamed, or the folder cannot be flushed.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default();
    let free = (0_u32..).map(|number| {
        let mut name = name.to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.push(".torn");
        path.with_file_name(name)
    });
    for aside in free {
        if fs::symlink_metadata(&aside).is_ok() {
            continue;
        }
        fs::rename(path, &aside)?;
        trust::sync_folder(path)?;
        return Ok(aside);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
