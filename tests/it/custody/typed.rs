//! A secret that is typed at a terminal.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{at_work, begun, soon, verified};
use crate::support::upstream::{KEY_ID, SECRET, Upstream};
use crate::support::wait::until;

/// A terminal of util-linux's `script`: its input, and all its output.
fn at_a_terminal(site: &crate::support::process::Site, line: &str, typed: &str) -> (bool, String) {
    let seen = site.folder.path().join("typescript");
    let mut command = Command::new("script");
    command.args(["--quiet", "--flush", "--return", "--command", line]).arg(&seen);
    command.env("CLAVIGER_CONFIG", site.config()).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    // The test types after the prompt, like a person: the terminal stops echoing right after the prompt.
    let is_prompted = || {
        fs::read_to_string(&seen)
            .is_ok_and(|text| text.contains("[y/N] ") || text.contains("secret: ") && !echoes(child.id()))
    };
    until("the prompt", is_prompted);
    keyboard.write_all(typed.as_bytes()).unwrap();
    let status = child.wait().unwrap();
    drop(keyboard);
    (status.success(), fs::read_to_string(&seen).unwrap())
}

/// Whether the terminal that `script` made for its child echoes its input.
fn echoes(script: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
    let child = children.split_whitespace().next().expect("script has a child");
    let terminal = fs::File::open(format!("/proc/{child}/fd/0")).unwrap();
    let modes = rustix::termios::tcgetattr(terminal).unwrap().local_modes;
    modes.contains(rustix::termios::LocalModes::ECHO)
}

#[test]
fn is_not_shown_and_works() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let upstream = Upstream::start(|seen| verified(seen, &[(KEY_ID, SECRET)]));
    let site = begun(&upstream);
    let binary = env!("CARGO_BIN_EXE_claviger");
    let line = format!("{binary} credential add jms --upstream jms --kind access-key --id {KEY_ID}");
    let (done, seen) = at_a_terminal(&site, &line, &format!("{SECRET}\n"));
    assert!(done && seen.contains("secret: ") && !seen.contains(SECRET), "{seen}");
    let token = super::issue(&site, "tool");
    let process = site.start();
    soon(&process, &token, 200);
}

/// A terminal asks before a command that cannot be undone, and only `yes` confirms it.
#[test]
fn a_question_is_answered_by_yes_alone() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let upstream = Upstream::ok();
    let (site, _) = at_work(&upstream);
    let line = format!("{} credential remove jms", env!("CARGO_BIN_EXE_claviger"));
    for (typed, removed) in [("\n", false), ("no\n", false), ("y\n", true)] {
        let (done, seen) = at_a_terminal(&site, &line, typed);
        assert_eq!(done, removed, "{seen}");
        assert_eq!(site.done(&["credential", "list"]).as_array().unwrap().is_empty(), removed);
        fs::remove_file(site.folder.path().join("typescript")).unwrap();
    }
}
