//! A disk whose operations neither succeed nor fail.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use claviger::audit::{Disk, Folder};
use claviger::clock::SystemClock;

use crate::support::process::PATIENCE;
use crate::support::upstream::Upstream;
use crate::support::wait::{comes_within, until};
use crate::support::world::{CONFIG, World};

struct Hanging {
    folder: Folder,
    hangs: Arc<AtomicBool>,
}

impl Disk for Hanging {
    fn dir(&self) -> &Path {
        self.folder.dir()
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.folder.create(name)
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.folder.append(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        comes_within(PATIENCE, || !self.hangs.load(Ordering::SeqCst));
        self.folder.sync(file)
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        self.folder.cut(file, len)
    }
}

/// Releases the disk when the test ends, even by a panic: the gateway waits for its disk.
struct GoesOn(Arc<AtomicBool>);

impl Drop for GoesOn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_flush_that_hangs_refuses_calls_until_it_is_done() {
    let hangs = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&hangs);
    let disk = |dir| -> Box<dyn Disk> { Box::new(Hanging { folder: Folder::new(dir), hangs: told }) };
    let world = World::on(Upstream::ok(), CONFIG, disk, Arc::new(SystemClock));
    let goes_on = GoesOn(Arc::clone(&hangs));
    assert_eq!(world.get("/before/", "").status, 200);
    hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let waited = world.get("/during/", "");
    assert_eq!((waited.status, waited.code().as_str()), (503, "unrecorded"));
    let in_vain = began.elapsed();
    assert!(!world.server().journal().healthy(), "it is told to whoever asks");
    let began = Instant::now();
    assert_eq!(world.get("/after/", "").status, 503);
    assert!(began.elapsed() < in_vain / 2, "a hanging disk is not waited for again");
    drop(goes_on);
    until("the disk works again", || world.server().journal().healthy());
    assert_eq!(world.get("/again/", "").status, 200);
    let targets: Vec<String> = world.upstream.seen().iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(targets, ["/before/", "/again/"], "nothing left meanwhile");
    let journal = crate::support::world::events(&world.folder.path().join("state/audit"));
    assert!(
        journal.iter().any(|event| event["what"] == "resumed"),
        "the trail tells of the gap: {journal:#?}"
    );
}
