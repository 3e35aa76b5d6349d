//! Parses the text of a configuration file.

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use super::decode::Context;
use super::file::{self, File};
use super::{Problem, Problems, Span, syntax};

/// The size of the largest file that is read, in bytes.
pub const LONGEST: usize = 4 << 20;

/// The stack on which a file is read, in bytes. The parser accepts tables of 80 levels, each with a key of 80 parts. It
/// drops the result by recursion, which needs more than a common stack.
const STACK: usize = 64 << 20;

/// Parses the text of the configuration file at `path`; relative paths start in its folder.
///
/// The file is returned whenever the text is TOML, even if problems were found. Values that could not be read are left
/// out (see [`Declared`](super::Declared)) or have their defaults, so that later checks can add their problems. The file must not be
/// used if [`Problems::has_errors`].
#[must_use]
pub fn parse(text: &str, path: &Path) -> (Option<File>, Problems) {
    let read = || read(text, path);
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("config".to_owned()).stack_size(STACK);
        match reader.spawn_scoped(scope, read) {
            Ok(reader) => reader.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => read(),
        }
    })
}

fn read(text: &str, path: &Path) -> (Option<File>, Problems) {
    let mut problems = Problems::new(path, text);
    if text.len() > LONGEST {
        let title = format!("the file is too large: {} bytes, of at most {LONGEST}", text.len());
        problems.push(Problem::error(Span::NOWHERE, title));
        return (None, problems);
    }
    let base = path.parent().unwrap_or(Path::new(""));
    let (document, whole) = syntax::parse(text, &mut problems);
    let torn = (!whole).then_some(problems.found.len());
    let context = Context::new(problems, base, &document, torn.is_some());
    let file = file::read(&context, &document);
    let mut problems = context.into_problems();
    match torn {
        None => (file, problems),
        Some(of_syntax) => {
            problems.forgive_torn(of_syntax);
            (None, problems)
        }
    }
}
