//! claviger refuses an incomplete or foreign store file with a reason, and never opens it as an empty one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger::storage::{Change, Sqlite, Storage as _, VersionRow};

use super::{InFile, Place as _, block_on, some, some_rows, version};

/// A closed store with some rows, all in one file.
fn kept() -> InFile {
    let place = InFile::new();
    block_on(async {
        let store = place.open().await;
        store.write(&some(), None).await.unwrap();
        store.close().await;
    });
    assert_eq!(fs::read_dir(place.0.path()).unwrap().count(), 1, "nothing is left beside it");
    place
}

/// Why the store at `path` does not open; opening and creating give the same reason.
fn refused(path: &Path) -> String {
    let before = fs::read(path).unwrap();
    let opened = block_on(Sqlite::open(path)).unwrap_err().to_string();
    let created = block_on(Sqlite::create(path)).unwrap_err().to_string();
    assert_eq!(opened, created);
    assert!(opened.starts_with(&format!("{}: ", path.display())), "{opened}");
    assert_eq!(fs::read(path).unwrap(), before, "it is left as it was");
    opened
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn one_that_was_cut_off_anywhere_is_refused() {
    let place = kept();
    let whole = fs::read(place.path()).unwrap();
    let page = 4096;
    assert!(whole.len() / page > 8);
    let lengths = (0..20).chain((0..whole.len()).step_by(page)).chain((1..whole.len()).step_by(1777));
    for length in lengths {
        write(&place.path(), &whole[..length]);
        let why = refused(&place.path());
        let told = if length < 16 { "cut off" } else { "" };
        assert!(why.contains(told), "{length}: {why}");
    }
    write(&place.path(), &whole);
    block_on(async { assert_eq!(place.open().await.read().await.unwrap().0, some_rows()) });
}

#[test]
fn another_programs_file_is_refused() {
    let place = kept();
    let whole = fs::read(place.path()).unwrap();
    write(&place.path(), b"state_dir = \"state\"\n");
    assert!(refused(&place.path()).contains("another program's"));
    write(&place.path(), &vec![0; whole.len()]);
    assert!(refused(&place.path()).contains("another program's"));
    // The application id and the schema version in the header.
    let mut foreign = whole.clone();
    foreign[68..72].copy_from_slice(&[0; 4]);
    write(&place.path(), &foreign);
    assert!(refused(&place.path()).contains("another program's database"));
    for version in [0, 98, 99] {
        let mut other = whole.clone();
        other[63] = version;
        write(&place.path(), &other);
        let why = refused(&place.path());
        assert!(why.contains(&format!("of version {version}")), "{why}");
    }
}

#[test]
fn a_page_that_was_overwritten_is_refused_or_reads_as_before() {
    let place = kept();
    let whole = fs::read(place.path()).unwrap();
    let mut found = 0;
    for page in 0..whole.len() / 4096 {
        for filling in [0, 0xff, 0x5a] {
            let mut torn = whole.clone();
            torn[page * 4096..(page + 1) * 4096].fill(filling);
            write(&place.path(), &torn);
            let read = block_on(async { Sqlite::open(&place.path()).await?.read().await });
            match read {
                Err(_) => found += 1,
                // A damaged index that no query used, or an unused page.
                Ok((rows, _)) => assert_eq!(rows, some_rows(), "page {page}, {filling}"),
            }
        }
    }
    assert!(found > 20, "{found}");
}

/// A removed version's material is overwritten, not left in free pages.
#[test]
fn what_was_taken_away_is_overwritten() {
    let place = InFile::new();
    let marked: Vec<u8> = b"the sealed bytes of a version".repeat(7);
    let version = VersionRow { sealed: marked.clone(), ..version("jms", 9) };
    let in_file = || {
        let bytes = fs::read(place.path()).unwrap();
        bytes.windows(29).any(|part| part == &marked[..29])
    };
    block_on(async {
        let store = place.open().await;
        store.write(&some(), None).await.unwrap();
        store.write(&[Change::PutVersion(version)], None).await.unwrap();
        store.close().await;
    });
    assert!(in_file());
    block_on(async {
        let store = place.open().await;
        store.write(&[Change::RemoveCredential("jms".into())], None).await.unwrap();
        store.close().await;
    });
    assert!(!in_file());
}

#[test]
fn what_is_in_the_way_is_refused() {
    let place = InFile::new();
    fs::create_dir(place.path()).unwrap();
    assert!(block_on(Sqlite::create(&place.path())).is_err());
    let nowhere = place.0.path().join("none/store.db");
    assert!(block_on(Sqlite::create(&nowhere)).is_err() && block_on(Sqlite::open(&nowhere)).is_err());
}

#[test]
fn one_that_others_may_read_is_refused() {
    let place = kept();
    let mode = |mode| fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
    for open in [0o640, 0o604, 0o602] {
        mode(open);
        assert!(refused(&place.path()).contains("chmod 600"));
    }
    mode(0o600);
    // The files beside the store have the same owner.
    block_on(async {
        let store = place.open().await;
        store.write(&some()[..1], None).await.unwrap();
        for entry in fs::read_dir(place.0.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    });
}

#[test]
fn a_file_put_in_its_place_is_noticed() {
    let (place, other) = (kept(), kept());
    block_on(async {
        let store = place.open().await;
        fs::rename(other.path(), place.path()).unwrap();
        for why in [store.stamp().await.unwrap_err(), store.write(&some(), None).await.unwrap_err()] {
            assert!(why.to_string().contains("in its place"), "{why}");
        }
        fs::remove_file(place.path()).unwrap();
        assert!(store.read().await.is_err());
    });
}

#[test]
fn what_a_crash_left_of_a_new_one_is_no_hindrance() {
    let place = InFile::new();
    for end in ["db.new", "db.new-wal", "db.new-journal"] {
        write(&place.path().with_extension(end), b"torn");
    }
    block_on(async { assert_eq!(place.open().await.read().await.unwrap().0.consumers, []) });
    assert!(!place.path().with_extension("db.new").exists());
}

/// Root opens another user's store, and must not create or change a foreign file through a link.
#[test]
fn a_link_in_the_place_of_a_file_beside_it_is_refused() {
    let place = kept();
    for end in ["-wal", "-shm", "-journal"] {
        let (beside, elsewhere) =
            (place.path().with_extension(format!("db{end}")), place.0.path().join("other"));
        std::os::unix::fs::symlink(&elsewhere, &beside).unwrap();
        let why = block_on(Sqlite::open(&place.path())).unwrap_err().to_string();
        assert!(why.contains("it is a link") && !elsewhere.exists(), "{end}: {why}");
        fs::remove_file(beside).unwrap();
    }
    block_on(async { assert_eq!(place.open().await.read().await.unwrap().0, some_rows()) });
}
