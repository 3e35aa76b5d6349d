//! `claviger check`: the configuration, offline.

use std::path::Path;

use super::{Output, load, say, tell};

/// Checks the file at `path`; whether it can be used.
pub(super) fn run(path: &Path, output: Output) -> bool {
    let (problems, ok) = match load(path) {
        Ok((_, _, problems)) => (problems, true),
        Err(problems) => (problems, false),
    };
    match output {
        Output::Json => {
            say(&format!("{}\n", serde_json::json!({ "ok": ok, "problems": problems.to_json() })));
        }
        Output::Text => {
            tell(&problems.render(true));
            say(&format!(
                "{}: {}\n",
                path.display(),
                if ok && problems.is_empty() { "ok".into() } else { problems.summary() }
            ));
        }
    }
    ok
}
