//! `claviger check`: checks the configuration offline.

use std::path::Path;

use super::{Output, load, print, tell_problems};
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
    match output {
        Output::Json => {
            print(&format!("{}\n", serde_json::json!({ "ok": ok, "problems": problems.to_json() })));
        }
        Output::Text => {
            tell_problems(&problems);
            print(&format!(
                "{}: {}\n",
                path.display(),
                if ok && problems.is_empty() { "ok".into() } else { problems.summary() }
            ));
        }
    }
    ok
}
