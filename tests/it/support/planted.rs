//! Secrets that a test planted, and the outputs where they could appear.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The texts to search for: the secret, and its encodings in transport and print.
pub fn forms(secret: &str) -> Vec<String> {
    let basic = |name: &str| STANDARD.encode(format!("{name}:{secret}"));
    let bytes: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    let hex = secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    // Of an encoding, the part that does not depend on the surrounding text.
    vec![
        secret.to_owned(),
        secret[12..].to_owned(),
        secret.to_uppercase(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        basic("x"),
        basic("tool"),
        bytes.join(", "),
        hex,
    ]
}

/// Every text in a folder and its subfolders, except the configuration's own.
pub fn texts(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, found);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
}
