//! Tests that the tour notices what is not as it should be.

use super::*;

fn run_tour(keys: Keys) -> (anyhow::Result<()>, Page, std::path::PathBuf) {
    let scene = Scene::open(Door::any(), keys).unwrap();
    let mut page = Page::new(false);
    let result = tour(&scene, &mut page);
    let folder = scene.folder().to_owned();
    scene.close().unwrap();
    (result, page, folder)
}

#[test]
fn everything_is_as_it_should_be_and_nothing_stays() {
    let (result, page, folder) = run_tour(Keys::random().unwrap());
    result.unwrap();
    assert!(!folder.exists(), "{}", folder.display());
    for (title, _) in STEPS {
        assert!(page.text.contains(title), "{title}");
    }
}

#[test]
fn an_upstream_with_another_secret_is_noticed() {
    let known = scene::random_uuid().unwrap();
    let (result, _, folder) = run_tour(Keys { known, ..Keys::random().unwrap() });
    let fault = format!("{:#}", result.unwrap_err());
    assert!(fault.starts_with("2. The call that a script makes: answered with 502"), "{fault}");
    assert!(fault.contains("upstream_auth"), "{fault}");
    assert!(!folder.exists());
}

#[test]
fn an_address_is_taken_once() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    assert!(Door::at(address).is_any(), "somebody listens there");
    drop(other);
    let first = Door::at(address);
    assert!(!first.is_any() && first.address == address);
    assert!(Door::at(address).is_any(), "the first demo has it, even before it listens");
}
