//! `claviger check`: checks the configuration offline.

use std::path::Path;

use super::{Output, load, tell_problems};
use crate::config::{Problem, Span};
use crate::control::known;
use crate::state::StateDir;

/// Checks the file at `path`; returns whether it can be used.
pub(super) fn run(path: &Path, output: Output) -> bool {
    let (problems, ok) = match load(path) {
        Ok((file, _, mut problems)) => {
            let present = StateDir::check_present(&file.state_dir.value, &file.audit.dir.value);
            let present = present
                .map_err(anyhow::Error::from)
                .and_then(|()| known::check_against_trail(&file, &known::history(&file)?));
            let ill = present.map_err(|ill| problems.push(Problem::error(Span::NOWHERE, format!("{ill:#}"))));
            (problems, ill.is_ok())
        }
        Err(problems) => (problems, false),
    };
    if output == Output::Text {
        tell_problems(&problems);
    }
    let found = if ok && problems.is_empty() { "ok".into() } else { problems.summary() };
    let json = serde_json::json!({ "ok": ok, "problems": problems.to_json() });
    output.print(&json, &format!("{}: {found}\n", path.display()));
    ok
}
