//! Prints the demo's output and keeps it, so that the tour can search it for secrets.

use anstyle::Style;
use serde_json::json;

use super::scene::Scene;
use super::tour;
use crate::cli::print;

const TITLE: Style = Style::new().bold();
const QUOTED: Style = Style::new().dimmed();

/// The output of the demo.
pub(super) struct Page {
    /// Whether the output is printed at all.
    shown: bool,
    text: String,
}

impl Page {
    pub(super) fn new(shown: bool) -> Self {
        Self { shown, text: String::new() }
    }

    /// The complete output so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn heading(&mut self, title: &str) {
        self.put(&format!("\n{TITLE}{title}{TITLE:#}\n"));
    }

    /// Prints a statement. The caller has checked that it is true.
    pub(super) fn line(&mut self, line: &str) {
        self.put(&format!("{line}\n"));
    }

    /// Prints text to read or to copy, unchanged.
    pub(super) fn quote(&mut self, text: &str) {
        for line in text.lines() {
            self.put(&format!("    {QUOTED}{line}{QUOTED:#}\n"));
        }
    }

    fn put(&mut self, text: &str) {
        self.text.push_str(text);
        if self.shown {
            print(text);
        }
    }
}

/// The result of the demo as JSON, for programs.
pub(super) fn json(scene: &Scene, wanting: Option<&anyhow::Error>) -> serde_json::Value {
    json!({
        "ok": wanting.is_none(),
        "wanting": wanting.map(|wanting| format!("{wanting:#}")),
        "steps": tour::titles(),
        "address": scene.address().to_string(),
        "config": scene.config(),
        "token": scene.token(),
    })
}
