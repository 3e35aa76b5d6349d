//! `claviger demo`, as a new user with only the binary runs it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::wait::found;

const CLAVIGER: &str = env!("CARGO_BIN_EXE_claviger");

/// A demo with its temporary folders in `tmp`.
fn demo(tmp: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(CLAVIGER);
    command.arg("demo").args(options).env("TMPDIR", tmp).stdin(Stdio::null());
    command
}

fn folders(tmp: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(tmp).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Runs a line that the demo printed.
fn sh(line: &str) -> Output {
    let line = line.replacen("claviger ", &format!("{CLAVIGER} "), 1);
    Command::new("sh").arg("-c").arg(line).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_check_shows_everything_and_leaves_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let done = demo(tmp.path(), &["--check"]).output().unwrap();
    let said = text(&done.stdout);
    assert!(done.status.success(), "{said}{}", text(&done.stderr));
    assert_eq!(text(&done.stderr), "");
    for line in [
        "The stand-in verified the signature with its own code.",
        "\"code\":\"denied_by_rule\"",
        "\"code\":\"org_override\"",
        "None of them reached the upstream.",
        "All 5 users on 3 pages, and every call came to the upstream signed.",
        "The trail is intact: 13 events",
        "(seq 5): edited: its hash is not that of its content",
        "Everything was as it should be.",
        "The gateway has ended; its folder is removed.",
    ] {
        assert!(said.contains(line), "no `{line}` in:\n{said}");
    }
    assert!(!said.contains('\x1b'), "no colour in a pipe");
    assert_eq!(folders(tmp.path()), [] as [PathBuf; 0]);
}

#[test]
fn the_check_for_machines_is_one_object() {
    let tmp = tempfile::tempdir().unwrap();
    let done = demo(tmp.path(), &["--check", "--output", "json"]).output().unwrap();
    let said: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&said["ok"], &said["wanting"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!(said["steps"].as_array().unwrap().len(), 7);
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let done = demo(Path::new("/nonexistent"), &["--check"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(text(&done.stderr).contains("a temporary folder"), "{}", text(&done.stderr));
}

/// A demo that waits for a signal.
struct Waiting {
    child: Child,
    said: String,
    out: BufReader<std::process::ChildStdout>,
}

impl Waiting {
    fn start(tmp: &Path) -> Self {
        let mut child = demo(tmp, &[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("Ctrl-C ends the demo") {
            assert_ne!(out.read_line(&mut said).unwrap(), 0, "{said}");
        }
        Self { child, said, out }
    }

    fn by_hand(&self) -> impl Iterator<Item = &str> {
        self.said.split_once("By hand").unwrap().1.lines().skip(1).filter(|line| !line.is_empty())
    }

    /// Sends the demo the signal and returns its exit code.
    fn end(mut self, signal: rustix::process::Signal) -> Option<i32> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
        let status = found(|| self.child.try_wait().unwrap(), || "its end".to_owned());
        self.out.read_to_string(&mut self.said).unwrap();
        assert!(self.said.ends_with("its folder is removed.\n"), "{}", self.said);
        status.code()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The demo still runs only if a test failed.
        let _ended = self.child.kill();
    }
}

#[test]
fn the_printed_lines_work_until_it_is_interrupted() {
    let tmp = tempfile::tempdir().unwrap();
    let waiting = Waiting::start(tmp.path());
    let [folder] = &folders(tmp.path())[..] else { panic!("one folder") };
    let secret = std::fs::read_to_string(folder.join("jms.secret")).unwrap();
    assert_eq!(secret.len(), 36);
    assert!(!waiting.said.contains(&secret), "the secret was printed");

    let curl = Command::new("curl").arg("--version").output().is_ok();
    let wanted = [
        ("curl", "\"count\":5"),
        ("curl", "\"username\":\"newhire\""),
        ("curl", ""),
        ("curl", "\"code\":\"denied_by_rule\""),
        ("claviger", "POST /api/v1/users/users/"),
        ("claviger", "the trail is intact: 20 events"),
        ("claviger", "decision    denied"),
    ];
    let lines: Vec<&str> = waiting.by_hand().filter(|line| !line.starts_with("Ctrl-C")).collect();
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, (program, answer)) in lines.into_iter().zip(wanted) {
        assert!(line.starts_with(program), "{line}");
        if curl {
            let done = sh(line);
            let said = text(&done.stdout);
            assert!(said.contains(answer) && done.stderr.is_empty(), "{line}\n{said}{}", text(&done.stderr));
            assert_eq!(said.is_empty(), answer.is_empty(), "{line}\n{said}");
        } else if program == "curl" {
            assert!(raw(line).starts_with("HTTP/1.1 "), "{line}");
        }
    }
    assert_eq!(waiting.end(rustix::process::Signal::INT), Some(0));
    assert_eq!(folders(tmp.path()), [] as [PathBuf; 0]);
}

/// The call of a printed line, without curl: its token and target.
fn raw(line: &str) -> String {
    use std::io::Write as _;
    let token = line.split("Bearer ").nth(1).unwrap().split('\'').next().unwrap();
    let url = line.trim_end_matches('\'').rsplit('\'').next().unwrap();
    let (host, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut socket = std::net::TcpStream::connect(host).unwrap();
    write!(
        socket,
        "GET /{target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn two_at_a_time_and_a_signal_to_each() {
    let tmp = tempfile::tempdir().unwrap();
    let (one, other) = (Waiting::start(tmp.path()), Waiting::start(tmp.path()));
    assert_eq!(folders(tmp.path()).len(), 2);
    // Another test may have had the port when the first demo started.
    let taken = |demo: &Waiting| demo.said.contains("127.0.0.1:7070, is taken");
    assert!(taken(&one) || taken(&other), "{}{}", one.said, other.said);
    let line = one.by_hand().next().unwrap();
    assert_ne!(Some(line), other.by_hand().next());
    assert_eq!(one.end(rustix::process::Signal::TERM), Some(0));
    assert_eq!(other.end(rustix::process::Signal::HUP), Some(0));
    assert_eq!(folders(tmp.path()), [] as [PathBuf; 0]);
}

/// A folder with the demo's configuration, except for the given roles and grants.
fn tried(demo: &Path, roles: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(demo.join("claviger.toml")).unwrap();
    let before = config.split("[roles.users-admin]").next().unwrap();
    std::fs::write(folder.path().join("claviger.toml"), format!("{before}{roles}")).unwrap();
    std::fs::copy(demo.join("jms.secret"), folder.path().join("jms.secret")).unwrap();
    folder
}

/// The JSON output of a command with the configuration in `folder`.
fn told(folder: &Path, arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let mut command = Command::new(CLAVIGER);
    command.args(arguments).args(["--output", "json"]).env("CLAVIGER_CONFIG", folder.join("claviger.toml"));
    let done = command.output().unwrap();
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}")))
}

fn changes(diff: &serde_json::Value) -> Vec<String> {
    let all = diff["changes"].as_array().unwrap().iter();
    let mut all: Vec<String> = all
        .map(|change| format!("{} {} {}", change["method"], change["path"], change["now"]).replace('"', ""))
        .collect();
    all.sort();
    all
}

#[test]
fn its_script_becomes_a_role_that_allows_what_it_did_and_nothing_else() {
    const ORG: &str = "00000000-0000-0000-0000-000000000002";
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let waiting = Waiting::start(tmp.path());
    let lines: Vec<String> =
        waiting.by_hand().map(str::trim).filter(|line| line.starts_with("curl")).map(String::from).collect();
    assert!(lines.len() >= 4, "{lines:?}");
    for line in &lines {
        assert!(sh(line).status.success(), "{line}");
    }
    let demo = &folders(tmp.path())[0];
    let trail = demo.join("state/audit").display().to_string();
    let (_, learned) = told(demo, &["policy", "learn", "--consumer", "onboarding", "--dir", &trail]);
    let learned = tried(demo, learned["toml"].as_str().unwrap());
    let everything = "[roles.everything]\nallow = [{ paths = [\"/**\"] }]\n[[grants]]\nconsumer = \"onboarding\"\nupstream = \"jumpserver\"\nroles = [\"everything\"]\n";
    let everything = tried(demo, &format!("{everything}orgs = [\"{ORG}\"]\n"));

    // The learned role decides the run as before; `everything` would have allowed only what was refused.
    let config = |folder: &tempfile::TempDir| folder.path().join("claviger.toml").display().to_string();
    let (code, diff) = told(demo, &["policy", "diff", &config(&learned), "--dir", &trail]);
    assert_eq!((code, changes(&diff)), (Some(0), Vec::new()), "{diff:#}");
    assert!(diff["calls"].as_u64().unwrap() >= 10, "{diff:#}");
    let (code, diff) = told(demo, &["policy", "diff", &config(&everything), "--dir", &trail]);
    let refused = ["DELETE /api/v1/users/users/ allowed", "POST /api/v1/authentication/access-keys/ allowed"];
    assert_eq!((code, changes(&diff)), (Some(1), refused.map(String::from).to_vec()), "{diff:#}");

    // Calls that differ in one detail from a call of the run.
    let explained = |call: &[&str]| {
        let arguments = [&["explain", "--consumer", "onboarding"], call].concat();
        told(learned.path(), &arguments).0
    };
    let other_org = "X-JMS-ORG: 0c1a0000-0000-4000-8000-000000000007";
    let target = "/api/v1/users/users/?limit=2";
    assert_eq!(explained(&["GET", target]), Some(0));
    assert_eq!(explained(&["GET", "/api/v1/users/groups/"]), Some(1));
    assert_eq!(explained(&["PUT", target]), Some(1));
    assert_eq!(explained(&["GET", target, "-H", other_org]), Some(1));
    assert_eq!(waiting.end(rustix::process::Signal::INT), Some(0));
}
