//! The configuration file: parses its text into a [`file::File`], and reports all problems at once.
//!
//! This step checks only the shape. Checks that need several places, or anything outside the text, run when the file is
//! compiled. They report to the same [`Problems`].

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

pub mod compile;
mod declared;
mod decode;
pub mod file;
mod problem;
mod span;
mod syntax;

pub use compile::{
    Admin, CompileInputs, Compiled, Listener, Pack, allowing_rule, denying_rules, read_secret_file,
};
pub use declared::Declared;
pub use decode::{Absent, Row, Shape};
pub use file::{File, keys};
pub use problem::suggest::did_you_mean;
pub use problem::{Level, Problem, Problems};
pub use span::{Span, Spanned};

/// The size of the largest file that is read, in bytes.
pub const LONGEST: usize = 4 << 20;

/// Parses the text of the configuration file at `path`; relative paths start in its folder.
///
/// The file is returned whenever the text is TOML, even if problems were found. Values that could not be read are left
/// out (see [`Declared`]) or have their defaults, so that later checks can add their problems. The file must not be
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

/// Reads the file at `path`. Its problems are returned beside it, to be reported together with those of
/// [`compile`](fn@compile). The caller must check them before it acts on the file.
///
/// # Errors
/// [`Problems`], if the file cannot be read or is not TOML.
pub fn read_file(path: &Path) -> Result<(File, Problems), Problems> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let mut problems = Problems::new(path, "");
            problems.push(Problem::error(Span::NOWHERE, format!("the file cannot be read: {error}")));
            return Err(problems);
        }
    };
    match parse(&text, path) {
        (Some(file), problems) => Ok((file, problems)),
        (None, problems) => Err(problems),
    }
}

/// Compiles what [`read_file`] returned: the one way to a [`Compiled`], for `check`, start-up and reload alike.
///
/// # Errors
/// [`Problems`], at least one of them an error. If the file can be used, its warnings are returned with the result.
pub fn compile(
    file: &File,
    mut problems: Problems,
    around: CompileInputs<'_>,
) -> Result<(Compiled, Problems), Problems> {
    match compile::compile(file, &mut problems, around) {
        Some(compiled) => Ok((compiled, problems)),
        None => Err(problems),
    }
}

/// Reads and compiles the file at `path`.
///
/// # Errors
/// As those of [`read_file`] and [`compile`](fn@compile).
pub fn load(path: &Path, around: CompileInputs<'_>) -> Result<(File, Compiled, Problems), Problems> {
    let (file, problems) = read_file(path)?;
    let (compiled, problems) = compile(&file, problems, around)?;
    Ok((file, compiled, problems))
}

/// The stack on which a file is read, in bytes. The parser accepts tables of 80 levels, each with a key of 80 parts. It
/// drops the result by recursion, which needs more than a common stack.
const STACK: usize = 64 << 20;

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
    let context = decode::Context::new(problems, base, &document, torn.is_some());
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

#[cfg(test)]
mod tests;
