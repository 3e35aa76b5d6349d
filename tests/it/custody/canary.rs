//! The test searches for secrets in custody in all stored, printed and leftover data.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use super::{CONFIG, Site, soon, verified};
use crate::support::planted::{forms, texts};
use crate::support::upstream::{KEY_ID, Upstream};

const SECRET: &str = "canary-of-the-stored-key-71c0d9e2";
const NEXT: &str = "canary-of-the-next-key-secret-a4f1";
const STAGED: &str = "canary-of-the-staged-secret-55b3c0";
const PHRASE: &str = "canary-of-the-passphrase-90ab-6e1d";
const IN_ENV: &str = "canary-of-a-variable-0c77f2e9-d1";

/// Fails if `text` contains one of `secrets`, in any of their encodings.
pub fn clean(what: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        for form in forms(secret) {
            assert!(!text.contains(&form), "{secret} as {form} in {what}");
        }
    }
}

pub fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// What other processes can see of a running process.
fn seen_from_outside(pid: u32) -> String {
    ["environ", "cmdline", "status", "maps", "limits"]
        .iter()
        .map(|name| {
            String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default()).into_owned()
        })
        .collect()
}

/// A gateway whose store is sealed with a passphrase and holds secrets of every kind; and a token.
fn planted(upstream: &Upstream) -> (Site, String) {
    let custody = "[custody]\nmaster_key = { passphrase = { file = \"phrase\" } }\n";
    let site = Site::with(upstream.address, &(CONFIG.to_owned() + custody));
    let phrase = site.folder.path().join("phrase");
    fs::write(&phrase, PHRASE).unwrap();
    fs::set_permissions(&phrase, fs::Permissions::from_mode(0o600)).unwrap();
    let add = ["credential", "add", "jms", "--upstream", "jms", "--kind", "access-key", "--id", KEY_ID];
    let rotate = ["credential", "rotate", "jms", "--id", KEY_ID];
    for (arguments, secret) in [
        (&add[..], SECRET),
        (&rotate, NEXT),
        (&[&rotate[..], &["--stage"]].concat(), STAGED),
        // claviger refuses these, and does not show the secret.
        (&add[..], SECRET),
        (&[&add[..2], &["other"], &add[3..8], &[SECRET]].concat(), NEXT),
    ] {
        let mut command = site.claviger();
        command.args(arguments).env("CLAVIGER_LOG", "trace").env("RUST_BACKTRACE", "full");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let outside = seen_from_outside(child.id());
        // A command that refuses at once does not read its input.
        let _written = std::io::Write::write_all(child.stdin.as_mut().unwrap(), secret.as_bytes());
        let output = child.wait_with_output().unwrap();
        clean("a verb's output", &printed(&output), &[SECRET, NEXT, STAGED, PHRASE]);
        if arguments.last() != Some(&SECRET) {
            clean("what others see of a verb", &outside, &[SECRET, NEXT, STAGED, PHRASE]);
        }
    }
    let token = super::issue(&site, "tool");
    (site, token)
}

/// Searches every file under the folder, except the configuration's own secret.
pub fn kept(site: &Site, secrets: &[&str]) {
    let mut found = Vec::new();
    texts(&site.state(), &mut found);
    assert!(found.iter().any(|(path, _)| path.ends_with("store.db")));
    assert!(found.iter().any(|(path, _)| path.contains("/audit/")));
    for (path, text) in found {
        clean(&path, &text, secrets);
    }
}

#[test]
fn no_secret_in_custody_is_found_anywhere() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, NEXT)]));
    let (site, token) = planted(&upstream);
    let secrets = [SECRET, NEXT, STAGED, PHRASE, token.as_str()];
    let process = site.launch(site.claviger().arg("serve").env("CLAVIGER_LOG", "trace"));
    soon(&process, &token, 200);
    // While the gateway runs, with SQLite's log beside the store.
    super::issue(&site, "tool");
    site.done(&["credential", "activate", "jms", "1"]);
    soon(&process, &token, 502);
    site.done(&["credential", "activate", "jms", "2"]);
    soon(&process, &token, 200);
    kept(&site, &secrets);
    clean("what others see of the gateway", &seen_from_outside(process.child.id()), &secrets);
    for verbs in [
        &["token", "list"] as &[&str],
        &["credential", "show", "jms"],
        &["credential", "list"],
        &["consumer", "show", "tool"],
        &["check"],
        &["explain", "--consumer", "tool", "GET", "/api/v1/"],
        &["audit", "show"],
        &["master-key", "rotate"],
    ] {
        for output in ["text", "json"] {
            let done =
                site.claviger().args(verbs).args(["--output", output]).env("CLAVIGER_LOG", "trace").output();
            clean(&format!("{verbs:?}"), &printed(&done.unwrap()), &secrets);
        }
    }
    let (code, said) = process.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("DEBUG") && said.contains("secrets stay in memory"), "the log says too little");
    clean("the log", &said, &secrets);
    kept(&site, &secrets);
}

/// A signal that would write a core dump kills the gateway, and no dump is left.
#[test]
fn an_abort_leaves_nothing_behind() {
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, NEXT)]));
    let (site, token) = planted(&upstream);
    let folder = site.folder.path();
    let limitless = format!("ulimit -c unlimited; exec {} serve", env!("CARGO_BIN_EXE_claviger"));
    let mut command = Command::new("sh");
    command
        .args(["-c", &limitless])
        .env("CLAVIGER_CONFIG", site.config())
        .env("SECRET", IN_ENV)
        .current_dir(folder);
    let mut process = site.launch(&mut command);
    soon(&process, &token, 200);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(core.split_whitespace().nth(5), Some("0"), "the hard limit too: {core}");
    process.signal(Signal::ABORT);
    let _ended = process.ended();
    let mut found = Vec::new();
    texts(folder, &mut found);
    for (path, text) in found {
        let name = Path::new(&path).file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with("core"), "{path}");
        if name != "phrase" {
            clean(&path, &text, &[SECRET, NEXT, STAGED, PHRASE, IN_ENV, &token]);
        }
    }
}

/// The process is not dumpable: the kernel lets only root inspect it, not other processes of the user.
#[test]
fn others_of_the_same_user_cannot_look_into_it() {
    const NOBODY: u32 = 65_534;
    let upstream = Upstream::ok();
    let (site, _) = super::at_work(&upstream);
    let root = rustix::process::geteuid().is_root();
    let binary = site.folder.path().join("claviger");
    fs::copy(env!("CARGO_BIN_EXE_claviger"), &binary).unwrap();
    let mut command = Command::new(&binary);
    command.arg("serve").env("CLAVIGER_CONFIG", site.config()).env_remove("CLAVIGER_LOG");
    if root {
        let owner = format!("{NOBODY}:{NOBODY}");
        assert!(
            Command::new("chown").args(["-R", &owner]).arg(site.folder.path()).status().unwrap().success()
        );
        command.uid(NOBODY).gid(NOBODY);
    }
    let process = site.launch(&mut command);
    let of = |name: &str| fs::metadata(format!("/proc/{}/{name}", process.child.id())).unwrap().uid();
    assert_eq!((of("environ"), of("mem")), (0, 0));
    if root {
        let peek =
            Command::new("cat").arg(format!("/proc/{}/environ", process.child.id())).uid(NOBODY).output();
        assert!(!peek.unwrap().status.success(), "another process of its user reads its environment");
    }
    assert_eq!(process.admin("/healthz").status, 200);
    process.kill();
}
