//! A disk that fails as a test plans, and records its contents.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use claviger::audit::{Disk, Folder};

/// An operation of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    Create,
    Append,
    Sync,
    Cut,
}

/// The result of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Works,
    Fails,
    /// An append that writes half of the bytes and then fails.
    Halfway,
}

type Plan = dyn Fn(Act, usize) -> Fate + Send + Sync;

/// The plan of a [`Faulty`] disk, and the record of its operations.
pub struct Notes {
    /// The result of the n-th operation of a kind, from 0.
    plan: Box<Plan>,
    healed: AtomicBool,
    counts: Mutex<HashMap<Act, usize>>,
    failed: AtomicBool,
    /// By inode: the written bytes, and how many of them are durable.
    files: Mutex<HashMap<u64, (Vec<u8>, usize)>>,
    held: Mutex<bool>,
    release: Condvar,
}

impl Notes {
    pub fn new(plan: impl Fn(Act, usize) -> Fate + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            plan: Box::new(plan),
            healed: AtomicBool::new(false),
            counts: Mutex::default(),
            failed: AtomicBool::new(false),
            files: Mutex::default(),
            held: Mutex::new(false),
            release: Condvar::new(),
        })
    }

    /// From now on every operation succeeds, whatever the plan says.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }

    /// Whether any operation has failed so far.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Whether `text` was written and not truncated since.
    pub fn written(&self, text: &str) -> bool {
        self.files.lock().unwrap().values().any(|(bytes, _)| find(bytes, text))
    }

    /// Whether `text` would survive a power failure now.
    pub fn durable(&self, text: &str) -> bool {
        self.files.lock().unwrap().values().any(|(bytes, durable)| find(&bytes[..*durable], text))
    }

    /// Blocks all flushes, or releases them.
    pub fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.release.notify_all();
    }

    fn fate(&self, act: Act) -> Fate {
        let count = {
            let mut counts = self.counts.lock().unwrap();
            let count = counts.entry(act).or_default();
            *count += 1;
            *count - 1
        };
        let fate = if self.healed.load(Ordering::SeqCst) { Fate::Works } else { (self.plan)(act, count) };
        if fate != Fate::Works {
            self.failed.store(true, Ordering::SeqCst);
        }
        fate
    }
}

fn find(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The disk.
pub struct Faulty {
    folder: Folder,
    notes: Arc<Notes>,
}

impl Faulty {
    /// For `World::on`.
    pub fn on(notes: &Arc<Notes>) -> impl FnOnce(PathBuf) -> Box<dyn Disk> {
        let notes = Arc::clone(notes);
        move |dir| Box::new(Self { folder: Folder::new(dir), notes })
    }

    fn note(&self, file: &File, note: impl FnOnce(&mut (Vec<u8>, usize))) {
        note(self.notes.files.lock().unwrap().entry(file.metadata().unwrap().ino()).or_default());
    }
}

fn broken() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Disk for Faulty {
    fn dir(&self) -> &Path {
        self.folder.dir()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        match self.notes.fate(Act::Create) {
            Fate::Works => self.folder.create(name),
            Fate::Fails | Fate::Halfway => Err(broken()),
        }
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let fate = self.notes.fate(Act::Append);
        let written = match fate {
            Fate::Works => bytes,
            Fate::Fails => &[],
            Fate::Halfway => &bytes[..bytes.len() / 2],
        };
        self.folder.append(file, written)?;
        self.note(file, |(all, _)| all.extend_from_slice(written));
        if fate == Fate::Works { Ok(()) } else { Err(broken()) }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut held = self.notes.held.lock().unwrap();
        while *held {
            held = self.notes.release.wait(held).unwrap();
        }
        drop(held);
        let mut size = 0;
        self.note(file, |(all, _)| size = all.len());
        match self.notes.fate(Act::Sync) {
            Fate::Works => self.folder.sync(file)?,
            Fate::Fails | Fate::Halfway => return Err(broken()),
        }
        self.note(file, |(_, durable)| *durable = size);
        Ok(())
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        match self.notes.fate(Act::Cut) {
            Fate::Works => self.folder.cut(file, len)?,
            Fate::Fails | Fate::Halfway => return Err(broken()),
        }
        self.note(file, |(all, durable)| {
            all.truncate(usize::try_from(len).unwrap());
            *durable = all.len().min(*durable);
        });
        Ok(())
    }
}
