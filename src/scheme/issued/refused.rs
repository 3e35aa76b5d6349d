//! Logins that upstreams have refused, kept in a file: a gateway that is started again and again must not lock the
//! account by logging in each time.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cache::{LoginError, Verdict};
use super::response::parse_refusal;
use crate::custody::Mark;
use crate::fs::trust::{self, FileTrustError, TrustedOwner};
use crate::name::Name;

/// The refused logins of all credentials, over reloads and restarts. Without a file it keeps none.
#[derive(Debug, Default)]
pub struct RefusedLogins(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    path: Option<PathBuf>,
    all: Vec<Note>,
}

/// What is kept of a login that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    upstream: String,
    credential: String,
    /// Which login it is, without its secret.
    login: String,
    /// The mark of its secret, where nothing else tells one secret from the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// How many in a row were refused.
    refused: u32,
    /// When the last was.
    at: String,
    reason: String,
    /// What a person can do, where no second try can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// A login by which it is found again in the file.
pub struct Known {
    /// The upstream's name, and the credential's.
    pub names: (Name, Name),
    /// A digest of all that makes it this login, but for the secret.
    pub login: String,
    /// Whether that tells one secret from the next: by the version that the store gave it.
    pub versioned: bool,
    /// Where it is kept.
    pub kept: Arc<RefusedLogins>,
}

/// How often a login was refused in a row, and the last time.
pub(in crate::scheme) struct Refusals {
    pub(in crate::scheme) count: u32,
    pub(in crate::scheme) at: SystemTime,
    pub(in crate::scheme) fault: LoginError,
}

impl RefusedLogins {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps them in the file at `path` from now on, and reads what it has.
    ///
    /// # Errors
    /// Where it cannot be read, is damaged, or others may read or replace it: then nothing of it counts.
    pub fn open(&self, path: &Path, keeper: TrustedOwner) -> io::Result<()> {
        let mut notes = self.notes();
        notes.path = Some(path.to_owned());
        let mut text = Vec::new();
        match keeper.open(path) {
            Err(FileTrustError::Unreadable(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            opened => opened?.read_to_end(&mut text)?,
        };
        let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged: {error}"));
        notes.all = serde_json::from_slice(&text).map_err(damaged)?;
        Ok(())
    }

    /// Forgets all but those of these upstreams and credentials.
    pub fn keep_only(&self, names: &[(Name, Name)]) {
        self.notes().change(|all| all.retain(|note| names.iter().any(|names| note.is_of(*names))));
    }
}

impl Notes {
    /// Changes them, and the file where that made a difference.
    fn change(&mut self, change: impl FnOnce(&mut Vec<Note>)) {
        let Some(path) = self.path.clone() else { return };
        let before = self.all.clone();
        change(&mut self.all);
        if before == self.all {
            return;
        }
        if let Err(error) = self.write(&path) {
            let path = path.display();
            tracing::warn!(%path, %error, "refused logins cannot be kept: a restart would repeat them");
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

impl Note {
    fn is_of(&self, (upstream, credential): (Name, Name)) -> bool {
        self.upstream == upstream.as_str() && self.credential == credential.as_str()
    }

    fn fault(&self) -> LoginError {
        let fault = LoginError::refused(self.reason.as_str());
        match self.advice.as_deref().map(parse_refusal) {
            Some(Some(verdict)) => LoginError { verdict, ..fault },
            Some(None) | None => fault,
        }
    }
}

impl Known {
    /// What the file has of this login; `is_marked` says whether a mark is that of its secret.
    pub(in crate::scheme) fn find(&self, is_marked: impl FnOnce(&Mark) -> bool) -> Option<Refusals> {
        let note = self.kept.notes().all.iter().find(|note| note.is_of(self.names)).cloned()?;
        let at = note.at.parse::<Timestamp>().ok()?.into();
        let is_secret = || note.mark.as_deref().and_then(Mark::parse).is_some_and(|mark| is_marked(&mark));
        let same = note.login == self.login && (self.versioned || is_secret());
        same.then(|| Refusals { count: note.refused, at, fault: note.fault() })
    }

    /// Whether the mark of the secret is needed.
    pub(in crate::scheme) fn needs_mark(&self) -> bool {
        !self.versioned && self.kept.notes().path.is_some()
    }

    /// Keeps what was refused; on the disk when it returns.
    pub(in crate::scheme) fn record(&self, refusals: &Refusals, mark: Option<&Mark>) {
        let Ok(at) = Timestamp::try_from(refusals.at) else { return };
        let advice = match refusals.fault.verdict {
            Verdict::Barred(advice) => Some(advice.to_owned()),
            Verdict::Unheard | Verdict::Unjudged | Verdict::Refused => None,
        };
        let (upstream, credential) = self.names;
        let note = Note {
            upstream: upstream.to_string(),
            credential: credential.to_string(),
            login: self.login.clone(),
            mark: mark.map(Mark::to_string),
            refused: refusals.count,
            at: at.to_string(),
            reason: refusals.fault.reason.clone(),
            advice,
        };
        self.kept.notes().change(|all| {
            all.retain(|other| !other.is_of(self.names));
            all.push(note);
        });
    }

    /// Forgets what was refused.
    pub(in crate::scheme) fn forget(&self) {
        self.kept.notes().change(|all| all.retain(|note| !note.is_of(self.names)));
    }
}
