//! Any text is a configuration that can be used, or has a problem that is told.

use std::path::Path;
use std::time::{Duration, SystemTime};

use claviger::config::{self, Base, CompileInputs, Level, Loaded, Problems};
use claviger::signature::HmacKey;

use super::room;

pub fn body(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    room::with(|room| {
        room::write(&room.join("key.secret"), b"d6ed1a06-66f7-4584-af18-000000000002");
        let path = room.join("claviger.toml");
        let first = verdict(text, &path);
        assert_eq!(first, verdict(text, &path), "the same text, the same verdict");
    });
}

/// What is told of `text`, and whether it can be used.
fn verdict(text: &str, path: &Path) -> (bool, String) {
    let (file, problems) = config::parse(text, path);
    let Some(file) = file else {
        assert!(problems.has_errors(), "no file, and no word why");
        return (false, told(&problems));
    };
    let inputs = CompileInputs {
        environment: &|name| (name == "SECRET").then(|| "d6ed1a06-66f7-4584-af18-000000000003".to_owned()),
        now: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000),
        base: Base::Start(HmacKey::new(b"0123456789abcdef0123456789abcdef")),
        stored: None,
    };
    let shape = problems.has_errors();
    match (Loaded { file, problems }).compile(&inputs) {
        Ok((compiled, problems)) => {
            assert!(!shape && !problems.has_errors(), "used in spite of a problem");
            assert!(!compiled.listeners.is_empty(), "nowhere to listen");
            (true, told(&problems))
        }
        Err(problems) => {
            assert!(problems.has_errors(), "refused, and no word why");
            (false, told(&problems))
        }
    }
}

fn told(problems: &Problems) -> String {
    let sorted = problems.sorted();
    assert_eq!(sorted.len(), problems.count(Level::Error) + problems.count(Level::Warning));
    assert!(sorted.iter().all(|problem| !problem.title.is_empty()));
    let text = problems.render(false);
    assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "a terminal would obey: {text:?}");
    format!("{text}{}", problems.to_json())
}
