//! Prints the demo's output and keeps it, so that the tour can search it for secrets.

use anstyle::Style;

use crate::cli::print;

const TITLE: Style = Style::new().bold();
const QUOTED: Style = Style::new().dimmed();

/// The output of the demo.
pub(super) struct Page {
    /// Whether the output is printed at all.
    is_printed: bool,
    /// The complete output so far.
    pub(super) text: String,
}

impl Page {
    pub(super) fn new(is_printed: bool) -> Self {
        Self { is_printed, text: String::new() }
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
        if self.is_printed {
            print(text);
        }
    }
}
