//! What compiling needs besides the file.

use std::fmt::Display;
use std::time::SystemTime;

use crate::config::{Declared, File, Problem, Problems, Spanned};
use crate::custody::UnsealedStore;
use crate::gateway::Snapshot;
use crate::policy::PathPattern;
use crate::signature::HmacKey;

/// What compiling needs besides the file.
pub struct CompileInputs<'a> {
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The present time, by which expiry is judged.
    pub now: SystemTime,
    /// The content of the store, if there is one.
    pub stored: Option<&'a UnsealedStore>,
    /// What the new snapshot starts from.
    pub base: Base<'a>,
}

/// What a new snapshot starts from.
pub enum Base<'a> {
    /// Nothing: a start, with the key of the fingerprints under which wrong credentials are recorded.
    Start(HmacKey),
    /// The snapshot in force: state that outlives a reload, such as counts and endpoints' health, is carried over.
    Reload(&'a Snapshot),
    /// The snapshot in force, while only the store is read again. What came from files and the environment stays, so
    /// that a problem with them cannot keep a revocation from taking effect.
    StoreOnly(&'a Snapshot),
}

impl<'a> Base<'a> {
    /// The snapshot in force, if there is one.
    pub(super) fn former(&self) -> Option<&'a Snapshot> {
        match self {
            Self::Start(_) => None,
            Self::Reload(former) | Self::StoreOnly(former) => Some(former),
        }
    }

    /// The snapshot in force whose data from files stays, if only the store is read again.
    pub(super) fn retained(&self) -> Option<&'a Snapshot> {
        match self {
            Self::Start(_) | Self::Reload(_) => None,
            Self::StoreOnly(former) => Some(former),
        }
    }
}

/// The file that is compiled, with the problems found in it.
pub(super) struct Scope<'a> {
    pub(super) file: &'a File,
    pub(super) problems: &'a mut Problems,
    pub(super) inputs: &'a CompileInputs<'a>,
}

/// The help for a file of certificate authorities that cannot be used.
pub(super) const AUTHORITY: &str = "it is the certificate of the authority in PEM, or several";

/// The problem with a reference to something that the file does not declare.
pub(super) fn unknown<T>(what: &str, name: &Spanned<impl Display>, known: &Declared<T>) -> Problem {
    let nearest = known.did_you_mean(&name.value.to_string());
    let title = format!("there is no {what} `{}`", name.value);
    let help = nearest.map(|nearest| format!("did you mean `{nearest}`?"));
    Problem::error(name.span, title).help_if(help)
}

/// Parses patterns of paths; those that are invalid are reported.
pub(super) fn patterns(texts: &[Spanned<String>], problems: &mut Problems) -> Vec<PathPattern> {
    let parse = |text: &Spanned<String>| {
        let report = |title: String| problems.push(Problem::error(text.span, title));
        PathPattern::parse(&text.value).map_err(report).ok()
    };
    texts.iter().filter_map(parse).collect()
}
