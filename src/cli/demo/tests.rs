//! Tests that the tour notices what is not as it should be.

use super::*;
use crate::secret::Secret;

fn toured(keys: Keys) -> (anyhow::Result<()>, Page, std::path::PathBuf) {
    let scene = Scene::open(Door::Free, keys).unwrap();
    let mut page = Page::new(false);
    let result = tour::run(&scene, &mut page);
    let folder = scene.folder().to_owned();
    scene.close().unwrap();
    (result, page, folder)
}

#[test]
fn everything_is_as_it_should_be_and_nothing_stays() {
    let (result, page, folder) = toured(Keys::random().unwrap());
    result.unwrap();
    assert!(!folder.exists(), "{}", folder.display());
    for title in tour::titles() {
        assert!(page.text().contains(title), "{title}");
    }
}

#[test]
fn an_upstream_with_another_secret_is_noticed() {
    let known = Secret::new(scene::random_uuid().unwrap().into_bytes());
    let (result, _, folder) = toured(Keys { known, ..Keys::random().unwrap() });
    let wanting = format!("{:#}", result.unwrap_err());
    assert!(wanting.starts_with("2. The call that a script makes: answered with 502"), "{wanting}");
    assert!(wanting.contains("upstream_auth"), "{wanting}");
    assert!(!folder.exists());
}

#[test]
fn an_address_is_taken_once() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    assert!(matches!(Door::at(address), Door::Free), "somebody listens there");
    drop(other);
    let first = Door::at(address);
    assert!(matches!(first, Door::At { address: at, .. } if at == address));
    assert!(matches!(Door::at(address), Door::Free), "the first demo has it, even before it listens");
}
