//! The one way to a usable configuration: reads the file, and compiles it.

use std::path::Path;

use super::compile::{CompileInputs, Compiled, compile};
use super::{File, Problem, Problems, Span, parse};

/// A configuration file that was read, with the problems found in it so far.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The content of the file. Without [`Loaded::checked`] it may be incomplete.
    pub file: File,
    /// The problems of its shape.
    pub problems: Problems,
}

/// Reads the file at `path`. Problems with its content are returned with it, to be reported together with those of
/// [`Loaded::compile`].
///
/// # Errors
/// [`Problems`], if the file cannot be read or is not TOML.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let mut problems = Problems::new(path, "");
        problems.push(Problem::error(Span::NOWHERE, format!("the file cannot be read: {error}")));
        problems
    })?;
    match parse(&text, path) {
        (Some(file), problems) => Ok(Loaded { file, problems }),
        (None, problems) => Err(problems),
    }
}

impl Loaded {
    /// The content of the file, for a command that needs nothing else of it.
    ///
    /// # Errors
    /// [`Problems`], if there are errors in the file: a misspelt key would leave its default in effect.
    pub fn checked(self) -> Result<File, Problems> {
        if self.problems.has_errors() { Err(self.problems) } else { Ok(self.file) }
    }

    /// Compiles the file. Warnings are returned with the result.
    ///
    /// # Errors
    /// [`Problems`], at least one of them an error.
    pub fn compile(&self, inputs: &CompileInputs<'_>) -> Result<(Compiled, Problems), Problems> {
        let mut problems = self.problems.clone();
        match compile(&self.file, &mut problems, inputs) {
            Some(compiled) => Ok((compiled, problems)),
            None => Err(problems),
        }
    }
}
