//! What the demo prints, and keeps, so that the tour can look for secrets in it.

use anstyle::Style;
use serde_json::json;

use super::scene::Scene;
use super::tour;
use crate::cli::print;

const TITLE: Style = Style::new().bold();
const QUOTED: Style = Style::new().dimmed();

/// The page that is being printed.
pub(super) struct Page {
    /// Whether it is printed at all.
    shown: bool,
    text: String,
}

impl Page {
    pub(super) fn new(shown: bool) -> Self {
        Self { shown, text: String::new() }
    }

    /// Everything on it so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn heading(&mut self, title: &str) {
        self.put(&format!("\n{TITLE}{title}{TITLE:#}\n"));
    }

    /// A statement. Whoever makes one has checked it.
    pub(super) fn line(&mut self, line: &str) {
        self.put(&format!("{line}\n"));
    }

    /// Something to read or to copy, as it is.
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

/// The same for machines.
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
