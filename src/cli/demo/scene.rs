//! Everything that the demo consists of: a folder, a stand-in upstream, and a gateway in front of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use tempfile::TempDir;

use super::standin::{DEFAULT_ORG, KnownKey, Standin};
use crate::audit::Folder;
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Base, CompileInputs};
use crate::encoding::hex;
use crate::fs::trust;
use crate::inbound::{Directory, token};
use crate::server::{Server, Setup};
use crate::state::StateDir;

/// The configuration, with placeholders for what differs from demo to demo.
const CONFIG: &str = include_str!("claviger.toml");
/// The address where the gateway listens if it is free.
pub(super) const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);
/// How long calls in flight may take at the end.
const DRAIN: Duration = Duration::from_secs(3);

/// The address where the gateway listens.
pub(super) struct Door {
    /// The address; with port 0, any free port.
    pub(super) address: SocketAddr,
    claim: Option<UdpSocket>,
}

impl Door {
    /// Any free port.
    pub(super) fn any() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), claim: None }
    }

    /// The given address, if it is free; otherwise any free port. A second gateway of the same user could share the
    /// port, but this test listener cannot. It cannot detect that another demo is about to listen. Every demo therefore
    /// holds the UDP port of the same number while it runs.
    pub(super) fn at(address: SocketAddr) -> Self {
        let claim = UdpSocket::bind(address).and_then(|claim| TcpListener::bind(address).map(|_| claim));
        claim.map_or_else(|_| Self::any(), |claim| Self { address, claim: Some(claim) })
    }

    /// Whether this is any free port.
    pub(super) fn is_any(&self) -> bool {
        self.claim.is_none()
    }
}

/// The access key of the demo.
pub(super) struct Keys {
    pub(super) id: String,
    /// The secret that the gateway signs with.
    pub(super) secret: String,
    /// The secret that the stand-in verifies with. It is the same, unless a test shows that it matters.
    pub(super) known: String,
}

impl Keys {
    /// Generates a key: an id and a secret of 36 characters, in the form of JumpServer's.
    pub(super) fn random() -> anyhow::Result<Self> {
        let secret = random_uuid()?;
        Ok(Self { id: random_uuid()?, known: secret.clone(), secret })
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
    /// The token of the demo's consumer. It is valid only for this demo.
    pub(super) token: String,
    pub(super) keys: Keys,
    pub(super) standin: Standin,
    server: Server,
    /// The address where the gateway listens.
    pub(super) address: SocketAddr,
    /// The path of the trail's folder.
    pub(super) audit: PathBuf,
    state: StateDir,
}

impl Scene {
    /// Sets up the demo: a folder with a configuration, then the same steps as `claviger serve`.
    pub(super) fn open(door: Door, keys: Keys) -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("claviger-demo-").tempdir().context("a temporary folder")?;
        let known = KnownKey::new(&keys.id, keys.known.as_bytes());
        let standin = Standin::start(known, folder.path().join("state/audit")).context("the stand-in")?;
        let token = String::from_utf8(token::fresh()?.expose().to_vec())?;
        let path = folder.path().join("claviger.toml");
        let config = render_config(door.address, standin.address, &keys.id, &token);
        for (name, text) in [("claviger.toml", &config), ("jms.secret", &keys.secret)] {
            let path = folder.path().join(name);
            trust::write_new(&path, text.as_bytes()).with_context(|| path.display().to_string())?;
        }

        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let state = StateDir::open(&folder.path().join("state"))?;
        let inputs = CompileInputs {
            environment: &|_| None,
            now: clock.now(),
            stored: None,
            base: Base::Start(state.fingerprint_key()?),
        };
        let loaded = config::load(&path).and_then(|config| Ok((config.compile(&inputs)?, config.file)));
        let loaded = loaded.map_err(|problems| anyhow!(problems.render(false)));
        let ((compiled, problems), file) = loaded?;
        ensure!(problems.is_empty(), "{}", problems.render(false));
        let audit = file.audit.dir.value.clone();
        let setup = Setup {
            compiled,
            workers: file.workers,
            spool: state.spool(),
            disk: Box::new(Folder::new(audit.clone())),
            signer: state.signer(&file.audit.origin)?,
            clock,
            metrics: Arc::default(),
        };
        let server = Server::start(setup).context("listening")?;
        let address = server.addresses.first().copied().context("no listener")?;
        Ok(Self { door, folder, token, keys, standin, server, address, audit, state })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of the configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.folder().join("claviger.toml")
    }

    /// What must appear neither at the upstream nor in the trail, each with its name.
    pub(super) fn secrets(&self) -> [(&str, &'static str); 2] {
        [(&self.token, "consumer's token"), (&self.keys.secret, "access key's secret")]
    }

    /// Stops the gateway, then the stand-in, and removes the folder.
    pub(super) fn close(self) -> anyhow::Result<()> {
        self.server.stop(DRAIN);
        drop((self.standin, self.state, self.door));
        let path = self.folder.path().to_owned();
        self.folder.close().with_context(|| format!("{} is not removed", path.display()))?;
        ensure!(!path.exists(), "{} is still there", path.display());
        Ok(())
    }
}

/// Renders the configuration with all values filled in.
fn render_config(listen: SocketAddr, upstream: SocketAddr, key_id: &str, token: &str) -> String {
    let digest = hex(&Directory::digest(token.as_bytes()));
    CONFIG
        .replace("@LISTEN@", &listen.to_string())
        .replace("@UPSTREAM@", &format!("http://{upstream}"))
        .replace("@KEY_ID@", key_id)
        .replace("@TOKEN_SHA256@", &digest)
        .replace("@ORG@", DEFAULT_ORG)
}
