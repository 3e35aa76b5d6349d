//! RSA signatures, verified by openssl.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::upstream::{Reply, Seen, Upstream};
use crate::support::world::{CONFIG, TOKEN, World};

/// A folder with a key as openssl makes it, and the key's public half.
fn keys(options: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    openssl(folder.path(), &[&["genrsa"], options, &["-out", "key.pem", "2048"]].concat());
    openssl(folder.path(), &["rsa", "-in", "key.pem", "-pubout", "-out", "public.pem"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (folder, key)
}

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new("openssl").args(arguments).current_dir(folder).output();
    let done = done.expect("openssl is installed: the signatures are verified by it");
    assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A gateway for an upstream, to which it signs with the key.
fn world(scheme: &str, key: &Path) -> World {
    let config = CONFIG
        .replace("profile = \"jumpserver\"", "profile = \"jumpcloud\"")
        .replace("scheme.access-key = {}", scheme)
        .replace(
            "access-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }",
            &format!("rsa = {{ id = \"system/5e9f0f1c\", key = {{ file = \"{}\" }} }}", key.display()),
        );
    World::with(Upstream::start(|_| Reply::json("{}")), &config)
}

/// The parameters of the signature.
fn parameter(seen: &Seen, name: &str) -> String {
    let sent = seen.one("authorization").strip_prefix("Signature ").unwrap();
    let rest = sent.split(&format!("{name}=\"")).nth(1).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Whether openssl verifies the signature over the text.
fn verify(folder: &Path, text: &str, signature: &str) {
    fs::write(folder.join("text"), text).unwrap();
    fs::write(folder.join("signature"), STANDARD.decode(signature).unwrap()).unwrap();
    let said =
        openssl(folder, &["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "text"]);
    assert_eq!(said.trim(), "Verified OK");
}

#[test]
fn a_system_signs_its_request_line_and_date() {
    for options in [&[][..], &["-traditional"]] {
        let (folder, key) = keys(options);
        let pem = fs::read_to_string(&key).unwrap();
        assert_eq!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"), !options.is_empty());
        let world = world("scheme.rsa = {}", &key);
        let answer = world.get("/api/systems/5e9f0f1c?fields=a%7cb", "Signature: theirs\r\n");
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = world.upstream.seen()[0].clone();
        assert_eq!(parameter(&seen, "keyId"), "system/5e9f0f1c");
        assert_eq!(parameter(&seen, "headers"), "request-line date");
        assert_eq!(parameter(&seen, "algorithm"), "rsa-sha256");
        let line = seen.raw_head.lines().next().unwrap();
        let text = format!("{line}\ndate: {}", seen.one("date"));
        assert!(line.starts_with("GET /api/systems/5e9f0f1c?") && line.ends_with(" HTTP/1.1"));
        verify(folder.path(), &text, &parameter(&seen, "signature"));
        assert!(!seen.raw_head.contains(TOKEN));
    }
}

#[test]
fn the_draft_signs_what_its_list_names() {
    let (folder, key) = keys(&[]);
    let scheme = "scheme.rsa = { form = \"cavage\", headers = [\"(request-target)\", \"host\", \"date\"] }";
    let world = world(scheme, &key);
    let answers = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| world.get("/a/b", "").status)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(answers, [200; 8]);
    for seen in world.upstream.seen() {
        assert_eq!(parameter(&seen, "headers"), "(request-target) host date");
        let text =
            format!("(request-target): get /a/b\nhost: {}\ndate: {}", seen.one("host"), seen.one("date"));
        verify(folder.path(), &text, &parameter(&seen, "signature"));
    }
}
