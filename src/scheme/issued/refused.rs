//! Rejected logins, persisted in a file. A gateway that restarts again and again must not lock the account by logging
//! in each time.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{LoginError, Verdict};
use super::response::parse_refusal;
use crate::custody::Mark;
use crate::fs::trust::{self, TrustedOwner};
use crate::name::Name;

/// The rejected logins of all credentials, kept across reloads and restarts. Without a file, none are kept.
#[derive(Debug, Default)]
pub struct RefusedLogins(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    path: Option<PathBuf>,
    all: Vec<LoginRecord>,
}

/// The record of a rejected login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LoginRecord {
    upstream: String,
    credential: String,
    /// The digest of the login's settings, without its secret.
    login: String,
    /// The mark of the secret, if nothing else distinguishes it from the next secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// The number of consecutive rejections.
    refused: u32,
    /// The time of the last rejection.
    at: String,
    reason: String,
    /// What a person can do, if a second attempt cannot help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// The identity of a login, by which its record is found in the file.
pub struct LoginIdentity {
    /// The names of the upstream and of the credential.
    pub names: (Name, Name),
    /// A digest of all settings that define the login, without its secret.
    pub login: String,
    /// Whether the digest distinguishes secrets, by the version that the store assigned.
    pub versioned: bool,
    /// The records that this login belongs to.
    pub records: Arc<RefusedLogins>,
}

/// The number of consecutive rejections, and the last one.
pub(crate) struct Refusals {
    pub(crate) count: u32,
    pub(crate) at: SystemTime,
    pub(crate) error: LoginError,
}

impl RefusedLogins {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file at `path`, and persists rejected logins there from now on.
    ///
    /// # Errors
    /// An I/O error if the file cannot be read, is damaged, or can be read or replaced by others. No record
    /// is restored then.
    pub fn open(&self, path: &Path, keeper: TrustedOwner) -> io::Result<()> {
        let mut records = self.records();
        records.path = Some(path.to_owned());
        let mut text = Vec::new();
        let Some(mut file) = keeper.open_if_present(path)? else { return Ok(()) };
        file.read_to_end(&mut text)?;
        let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged: {error}"));
        records.all = serde_json::from_slice(&text).map_err(damaged)?;
        Ok(())
    }

    /// Discards all records except those of these upstreams and credentials.
    pub fn keep_only(&self, names: &[(Name, Name)]) {
        self.records().change(|all| all.retain(|record| names.iter().any(|names| record.is_of(*names))));
    }
}

impl Records {
    /// Applies a change to the records, and writes the file if they differ.
    fn change(&mut self, change: impl FnOnce(&mut Vec<LoginRecord>)) {
        let Some(path) = self.path.clone() else { return };
        let before = self.all.clone();
        change(&mut self.all);
        if before == self.all {
            return;
        }
        if let Err(error) = self.write(&path) {
            let path = path.display();
            tracing::warn!(%path, %error, "refused logins cannot be stored: a restart would repeat them");
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        if !self.all.is_empty() {
            return trust::replace(path, &serde_json::to_vec(&self.all)?);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl LoginRecord {
    fn is_of(&self, (upstream, credential): (Name, Name)) -> bool {
        self.upstream == upstream.as_str() && self.credential == credential.as_str()
    }

    fn error(&self) -> LoginError {
        let verdict = self.advice.as_deref().and_then(parse_refusal).unwrap_or(Verdict::Refused);
        LoginError { verdict, ..LoginError::refused(self.reason.as_str()) }
    }
}

impl LoginIdentity {
    /// Finds the record of this login. `is_marked` returns whether a mark belongs to its secret.
    pub(crate) fn find(&self, is_marked: impl FnOnce(&Mark) -> bool) -> Option<Refusals> {
        let record = self.records.records().all.iter().find(|record| record.is_of(self.names)).cloned()?;
        let at = record.at.parse::<Timestamp>().ok()?.into();
        let is_secret = || record.mark.as_deref().and_then(Mark::parse).is_some_and(|mark| is_marked(&mark));
        let same = record.login == self.login && (self.versioned || is_secret());
        same.then(|| Refusals { count: record.refused, at, error: record.error() })
    }

    /// Returns whether the mark of the secret is needed.
    pub(crate) fn needs_mark(&self) -> bool {
        !self.versioned && self.records.records().path.is_some()
    }

    /// Records a rejected login. It is on disk when the function returns.
    pub(crate) fn record(&self, refusals: &Refusals, mark: Option<&Mark>) {
        let Ok(at) = Timestamp::try_from(refusals.at) else { return };
        let advice = match refusals.error.verdict {
            Verdict::Barred(advice) => Some(advice.to_owned()),
            Verdict::Unheard | Verdict::Unjudged | Verdict::Refused => None,
        };
        let (upstream, credential) = self.names;
        let record = LoginRecord {
            upstream: upstream.to_string(),
            credential: credential.to_string(),
            login: self.login.clone(),
            mark: mark.map(Mark::to_string),
            refused: refusals.count,
            at: at.to_string(),
            reason: refusals.error.failure.reason.clone(),
            advice,
        };
        self.records.records().change(|all| {
            all.retain(|other| !other.is_of(self.names));
            all.push(record);
        });
    }

    /// Discards the record of this login.
    pub(crate) fn forget(&self) {
        self.records.records().change(|all| all.retain(|record| !record.is_of(self.names)));
    }
}
