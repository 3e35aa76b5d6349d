//! Where a secret is found: the file never contains a secret.

use std::path::PathBuf;

use crate::config::Spanned;
use crate::config::decode::{Reader, Tag, one_of, path, variable};

/// The place where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The path of a file.
    File(PathBuf),
    /// The name of an environment variable.
    Env(String),
}

impl Reference {
    pub(super) fn reader() -> Reader<Spanned<Self>> {
        source(vec![
            (
                "file",
                "The file that holds the secret alone; only its owner can read it.",
                path().map(|path| Self::File(path.value)),
            ),
            (
                "env",
                "The environment variable that holds the secret.",
                variable().map(|name| Self::Env(name.value)),
            ),
        ])
    }
}

/// Reads one of several sources of a secret. A secret in its place is refused, and never shown.
pub(super) fn source<T: 'static>(sources: Vec<Tag<T>>) -> Reader<Spanned<T>> {
    let sources = one_of("source", sources).after(|node| {
        if node.value().is_table() {
            return Ok(());
        }
        node.hide();
        let problem = node.problem("must say where the secret is: a literal secret is not accepted");
        let help = "write `{ file = \"…\" }` or `{ env = \"…\" }`; if it was ever committed or shared, replace the secret";
        Err(node.report(problem.label("not shown").help(help)))
    });
    sources.located()
}
