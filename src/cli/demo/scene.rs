//! Everything that the demo consists of: a folder, a stand-in upstream, and a gateway in front of it.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use super::standin::{DEFAULT_ORG, KnownKey, Standin};
use crate::audit::Folder;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, CompileInputs};
use crate::inbound::{Directory, token};
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::server::{Server, Setup};
use crate::state::StateDir;

/// The configuration, with placeholders for what differs from demo to demo.
const CONFIG: &str = include_str!("claviger.toml");
/// The address where the gateway listens if it is free.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
/// How long calls in flight may take at the end.
const DRAIN: Duration = Duration::from_secs(3);

/// The address where the gateway listens.
pub(super) enum Door {
    /// An address that no other process uses.
    At { address: SocketAddr, _claim: UdpSocket },
    /// Any free port.
    Free,
}

impl Door {
    /// The usual address, if it is free; otherwise any free port.
    pub(super) fn usual() -> Self {
        Self::at(USUAL)
    }

    /// The given address, if it is free; otherwise any free port. A second gateway of the same user could share the
    /// port, but this test listener cannot. It cannot detect that another demo is about to listen. Every demo therefore
    /// holds the UDP port of the same number while it runs.
    pub(super) fn at(address: SocketAddr) -> Self {
        let claim = UdpSocket::bind(address).and_then(|claim| TcpListener::bind(address).map(|_| claim));
        claim.map_or(Self::Free, |claim| Self::At { address, _claim: claim })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::At { address, .. } => *address,
            Self::Free => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

/// The access key of the demo.
pub(super) struct Keys {
    pub(super) id: String,
    /// The secret that the gateway signs with.
    pub(super) secret: Secret,
    /// The secret that the stand-in verifies with. It is the same, unless a test shows that it matters.
    pub(super) known: Secret,
}

impl Keys {
    /// Generates a key: an id and a secret of 36 characters, in the form of JumpServer's.
    pub(super) fn random() -> anyhow::Result<Self> {
        let secret = random_uuid()?;
        let known = Secret::new(secret.clone().into_bytes());
        Ok(Self { id: random_uuid()?, secret: Secret::new(secret.into_bytes()), known })
    }
}

pub(super) fn random_uuid() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("no random bytes"))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string())
}

/// The running demo.
pub(super) struct Scene {
    door: Door,
    folder: TempDir,
    token: Secret,
    keys: Keys,
    standin: Standin,
    server: Server,
    address: SocketAddr,
    audit: PathBuf,
    state: StateDir,
}

impl Scene {
    /// Sets up the demo: a folder with a configuration, then the same steps as `claviger serve`.
    pub(super) fn open(door: Door, keys: Keys) -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("claviger-demo-").tempdir().context("a temporary folder")?;
        let known = KnownKey::new(&keys.id, keys.known.expose());
        let standin = Standin::start(known, folder.path().join("state/audit")).context("the stand-in")?;
        let token = token::fresh()?;
        let path = folder.path().join("claviger.toml");
        private(&path, render_config(door.address(), standin.address(), &keys.id, &token).as_bytes())?;
        private(&folder.path().join("jms.secret"), keys.secret.expose())?;

        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = StateDir::open(&folder.path().join("state"))?;
        let around = CompileInputs {
            environment: &|_| None,
            now: clock.now(),
            failures: Arc::default(),
            former: None,
            fingerprints: state.fingerprint_key()?,
            stored: None,
            following: false,
        };
        let (file, compiled, problems) = match config::load(&path, around) {
            Ok(loaded) => loaded,
            Err(problems) => bail!("{}", problems.render(false)),
        };
        ensure!(problems.is_empty(), "{}", problems.render(false));
        let metrics = Arc::new(Metrics::default());
        let audit = file.audit.dir.value.clone();
        let disk = Box::new(Folder::new(audit.clone()));
        let (workers, spool, signer) = (file.workers, state.spool(), state.signer(&file.audit.origin)?);
        let setup = Setup { compiled, workers, spool, disk, signer, clock, metrics };
        let server = Server::start(setup).context("listening")?;
        let address = server.addresses().first().copied().context("no listener")?;
        Ok(Self { door, folder, token, keys, standin, server, address, audit, state })
    }

    pub(super) fn standin(&self) -> &Standin {
        &self.standin
    }

    /// The address where the gateway listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token of the demo's consumer. It is valid only for this demo.
    pub(super) fn token(&self) -> String {
        text(&self.token)
    }

    /// The secret half of the access key, for the search of places where it must not be.
    pub(super) fn secret(&self) -> String {
        text(&self.keys.secret)
    }

    pub(super) fn key_id(&self) -> &str {
        &self.keys.id
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of the configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.folder().join("claviger.toml")
    }

    /// The path of the trail's folder.
    pub(super) fn audit(&self) -> &Path {
        &self.audit
    }

    /// Stops the gateway, then the stand-in, and removes the folder.
    pub(super) fn close(self) -> anyhow::Result<()> {
        self.server.stop(DRAIN);
        drop(self.standin);
        drop(self.state);
        drop(self.door);
        let path = self.folder.path().to_owned();
        self.folder.close().with_context(|| format!("{} is not removed", path.display()))?;
        ensure!(!path.exists(), "{} is still there", path.display());
        Ok(())
    }
}

/// Renders the configuration with all values filled in.
fn render_config(listen: SocketAddr, upstream: SocketAddr, key_id: &str, token: &Secret) -> String {
    use std::fmt::Write as _;
    let mut digest = String::with_capacity(64);
    for byte in Directory::digest(token.expose()) {
        // Writing into a string cannot fail.
        write!(digest, "{byte:02x}").unwrap_or_default();
    }
    CONFIG
        .replace("@LISTEN@", &listen.to_string())
        .replace("@UPSTREAM@", &format!("http://{upstream}"))
        .replace("@KEY_ID@", key_id)
        .replace("@TOKEN_SHA256@", &digest)
        .replace("@ORG@", DEFAULT_ORG)
}

/// Writes a file that only its owner can read.
fn private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).with_context(|| path.display().to_string())
}

/// Converts a token or secret of the demo, which is ASCII, to text.
fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}
