//! The real binary: a folder with a configuration, and the processes that run with it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::port::Port;
use crate::support::upstream::SECRET;
use crate::support::wait;
use crate::support::world::{Answer, CONFIG, Raw, TOKEN, events, fill};

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// With `sync`, the trail is on the disk before the gateway answers.
pub const SYNC: &str = "[audit]\ndurability = \"sync\"\n";

/// A folder with a configuration, from which a test can start the gateway many times.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub admin: SocketAddr,
    upstream: SocketAddr,
    _port: Port,
}

impl Site {
    /// The configuration of most tests, with further lines at its end.
    pub fn new(upstream: SocketAddr, more: &str) -> Self {
        Self::with(upstream, &format!("{}[admin]\naddress = \"@ADMIN@\"\n{more}", patient(CONFIG)))
    }

    /// Another configuration. `@ADMIN@` stands for the admin listener's address.
    pub fn with(upstream: SocketAddr, config: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), upstream, config)
    }

    /// Another configuration, in a folder that the test provides.
    pub fn within(folder: tempfile::TempDir, upstream: SocketAddr, config: &str) -> Self {
        let secret = folder.path().join("key.secret");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let port = Port::claim();
        let site = Self { folder, admin: port.address, upstream, _port: port };
        site.write(config);
        site
    }

    /// Replaces the configuration.
    pub fn write(&self, config: &str) {
        let text = fill(config, self.upstream).replace("@ADMIN@", &self.admin.to_string());
        let new = self.folder.path().join("claviger.toml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.config()).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("claviger.toml")
    }

    pub fn audit(&self) -> PathBuf {
        self.folder.path().join("state/audit")
    }

    /// Every complete line of the trail.
    pub fn events(&self) -> Vec<Value> {
        events(&self.audit())
    }

    /// The binary, with this configuration.
    pub fn claviger(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
        command.env_remove("CLAVIGER_LOG").env("CLAVIGER_CONFIG", self.config()).stdin(Stdio::null());
        command
    }

    /// Runs the binary until it ends.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.claviger().args(arguments).output().unwrap()
    }

    /// Runs `audit verify`, which must report no problem.
    pub fn verified(&self) -> Value {
        let done = self.run(&["audit", "verify", "--output", "json"]);
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(0), "{report:#}");
        report
    }

    /// Starts the gateway and waits until it is ready.
    pub fn start(&self) -> Process {
        let process = self.launch(self.claviger().arg("serve"));
        process.wait_ready();
        process
    }

    /// Starts the gateway with a command that the test provides, and waits until it listens.
    pub fn launch(&self, command: &mut Command) -> Process {
        self.launch_to(command, Stdio::null())
    }

    /// Starts the gateway likewise, with a target for its standard output.
    pub fn launch_to(&self, command: &mut Command, out: Stdio) -> Process {
        let log = self.folder.path().join("stderr.log");
        let child = command.stderr(File::create(&log).unwrap()).stdout(out).spawn().unwrap();
        let mut process = Process { child, address: self.admin, admin: self.admin, log };
        let said = process.wait_said("listening address=");
        let address = said.split("listening address=").nth(1).unwrap().split_whitespace().next().unwrap();
        process.address = address.parse().unwrap();
        process
    }
}

/// The configuration with time-outs that a busy machine does not reach.
pub fn patient(config: &str) -> String {
    config.replace("\"400ms\"", "\"10s\"").replace("\"600ms\"", "\"10s\"")
}

/// A running gateway.
pub struct Process {
    pub child: Child,
    /// The data listener.
    pub address: SocketAddr,
    pub admin: SocketAddr,
    log: PathBuf,
}

impl Process {
    /// Sends a `GET` with the tool's token on a new connection.
    pub fn get(&self, target: &str) -> Answer {
        get(self.address, target, TOKEN)
    }

    /// Sends a `GET` to the admin listener.
    pub fn admin(&self, target: &str) -> Answer {
        asked(self.admin, &self.admin.to_string(), target, "")
    }

    /// The log on stderr so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log contains `text`; returns the log.
    pub fn wait_said(&mut self, text: &str) -> String {
        self.wait_said_again(text, 0)
    }

    /// Waits until the log contains `text` more than `before` times; returns the log.
    pub fn wait_said_again(&mut self, text: &str, before: usize) -> String {
        let log = self.log.clone();
        let look = || {
            let said = fs::read_to_string(&log).unwrap();
            // The last line may be incomplete.
            let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let often: usize = whole.map(|line| line.matches(text).count()).sum();
            let ended = self.child.try_wait().unwrap();
            assert!(often > before || ended.is_none(), "`{text}` was not said ({ended:?}): {said}");
            (often > before).then_some(said)
        };
        wait::found(look, || {
            format!("`{text}`, more than {before} times: {}", fs::read_to_string(&log).unwrap())
        })
    }

    pub fn wait_ready(&self) {
        self.wait_readiness(200);
    }

    /// Waits until `/readyz` answers `status`; returns that answer.
    pub fn wait_readiness(&self, status: u16) -> Answer {
        let look = || Some(self.admin("/readyz")).filter(|answer| answer.status == status);
        wait::found(look, || format!("{status}: {:?} {}", self.admin("/readyz"), self.said()))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it at once, so that it can neither log nor do anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop; returns its exit code and its log.
    pub fn end(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        (self.ended(), self.said())
    }

    /// Waits for its end; returns its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let log = self.log.clone();
        let look = || self.child.try_wait().unwrap();
        wait::found(look, || format!("its end: {}", fs::read_to_string(&log).unwrap())).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process still runs only if a test failed.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Sends a `GET` on a new connection.
pub fn get(address: SocketAddr, target: &str, token: &str) -> Answer {
    asked(address, "gw.test", target, token)
}

fn asked(address: SocketAddr, host: &str, target: &str, token: &str) -> Answer {
    let mut raw = Raw::to(address);
    raw.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    raw.send(format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    ));
    raw.answer()
}

/// Starts the gateway, which must refuse; returns the reason.
pub fn refused_start(site: &Site) -> String {
    let mut command = site.claviger();
    let mut child = command.arg("serve").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    if !wait::comes_within(PATIENCE, || child.try_wait().unwrap().is_some()) {
        child.kill().unwrap();
        panic!("it starts");
    }
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

/// A folder in memory, for tests that make so many folders that a disk would be too slow.
pub fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// Copies a folder with all its contents.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
