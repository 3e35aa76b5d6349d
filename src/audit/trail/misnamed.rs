//! Segments that do not begin with the event that their names say: another file was put in the place of one, or among
//! them. No chain may be continued from such a file.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::chain::verified_line;
use super::retired::RetiredStub;
use super::segment::{is_damage, open, parse_segment_name, read_line, segments};
use crate::fs::trust;

/// The first event of a segment that carries its own hash.
#[derive(Debug)]
pub(in crate::audit) struct First {
    /// How many lines are before it: these were damaged.
    pub(in crate::audit) line: u64,
    pub(in crate::audit) seq: u64,
    pub(in crate::audit) prev: String,
}

impl First {
    /// Of the segment at `path`; `None` where it has no such event, or is gone.
    pub(in crate::audit) fn of(path: &Path) -> io::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Line {
            seq: u64,
            prev: String,
        }
        let mut reader = match open(path) {
            // A running gateway has let it go since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            reader => reader?,
        };
        let (mut bytes, mut line) = (Vec::new(), 0);
        loop {
            match read_line(&mut reader, &mut bytes) {
                Ok(0) => return Ok(None),
                Err(error) if is_damage(&error) => return Ok(None),
                read => read?,
            };
            let Some(whole) = bytes.strip_suffix(b"\n") else { continue };
            if verified_line(whole).is_some()
                && let Ok(Line { seq, prev }) = serde_json::from_slice(whole)
            {
                return Ok(Some(Self { line, seq, prev }));
            }
            line += 1;
        }
    }

    /// Whether a segment of this name may begin so.
    fn is_of(&self, path: &Path) -> bool {
        parse_segment_name(path).is_some_and(|(first, _)| first.checked_add(self.line) == Some(self.seq))
    }
}

/// The number of the first event of the segment at `path`, where it is not the one that the name says.
pub(in crate::audit) fn find_misnamed(path: &Path) -> io::Result<Option<u64>> {
    Ok(First::of(path)?.filter(|first| !first.is_of(path)).map(|first| first.seq))
}

/// The segments in `dir`, in order.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Those that are what their names say, as far as can be read.
    pub segments: Vec<PathBuf>,
    /// The others, each with the number of its first event.
    pub misnamed: Vec<(PathBuf, u64)>,
}

impl Sorted {
    /// Looks at the beginning of each segment; where the folder is not there, there is none.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let paths = match segments(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            found => found?,
        };
        let mut sorted = Self::default();
        for path in paths {
            match find_misnamed(&path)? {
                Some(seq) => sorted.misnamed.push((path, seq)),
                None => sorted.segments.push(path),
            }
        }
        Ok(sorted)
    }
}

/// Whether nothing of a trail is in `dir`: no segment, and nothing that stands for one.
///
/// # Errors
/// Where the folder cannot be read.
pub fn is_empty(dir: &Path) -> io::Result<bool> {
    match segments(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        found => Ok(found?.is_empty() && RetiredStub::latest(dir)?.is_none()),
    }
}

/// Renames a file so that it is no segment any more, durably; gives its new path, which ends with `.torn`.
///
/// # Errors
/// As the file system's.
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
        File::open(trust::folder(path))?.sync_all()?;
        return Ok(aside);
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
