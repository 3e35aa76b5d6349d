//! Commands that read the trail and find none: they fail, and never report that all is well.

use std::fs;
use std::path::Path;

use claviger::audit::trail::chain::ChainHead;
use serde_json::Value;

use crate::support::process::Site;
use crate::support::upstream::Upstream;

/// A closed trail of some calls, and its first and last head, each in a file.
fn trail() -> (Upstream, Site, [String; 2]) {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    for call in 0..3 {
        assert_eq!(process.get(&format!("/api/v1/{call}/")).status, 200);
    }
    assert_eq!(process.end().0, Some(0));
    let events = site.events();
    let notes: Vec<&str> = events.iter().filter_map(|event| event["note"].as_str()).collect();
    let kept = [("first", notes[0]), ("last", notes[notes.len() - 1])].map(|(name, note)| {
        let path = site.folder.path().join(name);
        fs::write(&path, note).unwrap();
        path.display().to_string()
    });
    (upstream, site, kept)
}

/// Each command that reads the trail, as typed.
fn readers(site: &Site, [first, last]: &[String; 2]) -> Vec<Vec<String>> {
    let key = site.folder.path().join("state/audit.pub").display().to_string();
    let new = site.folder.path().join("new.toml");
    fs::write(&new, fs::read(site.config()).unwrap()).unwrap();
    let typed = [
        "audit verify".to_owned(),
        "audit verify --output json".to_owned(),
        format!("audit verify --key {key}"),
        "audit show".to_owned(),
        "audit show --output json".to_owned(),
        "audit tail".to_owned(),
        "audit search".to_owned(),
        "audit search --output json".to_owned(),
        "audit export -".to_owned(),
        "audit prove 01890000-0000-7000-8000-000000000000".to_owned(),
        format!("audit consistency {first} {last} --key {key}"),
        "policy learn --consumer tool".to_owned(),
        format!("policy diff {}", new.display()),
    ];
    typed.iter().map(|typed| typed.split(' ').map(String::from).collect()).collect()
}

fn refused(site: &Site, typed: &[String], more: &[&str]) -> String {
    let arguments: Vec<&str> = typed.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let done = site.run(&arguments);
    assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{typed:?} {more:?}: {done:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn a_folder_that_is_missing_empty_or_no_trail_is_an_error_for_all_that_reads_it() {
    let (_upstream, site, heads) = trail();
    let readers = readers(&site, &heads);
    let (audit, away) = (site.audit(), site.folder.path().join("away"));
    fs::rename(&audit, &away).unwrap();
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("notes.txt"), "no trail").unwrap();
    let (file, nowhere) = (other.path().join("notes.txt"), other.path().join("nowhere"));
    for typed in &readers {
        let said = refused(&site, typed, &[]);
        assert!(said.contains(audit.to_str().unwrap()), "{typed:?}: {said}");
        for dir in [other.path(), &file, &nowhere] {
            let said = refused(&site, typed, &["--dir", dir.to_str().unwrap()]);
            assert!(said.contains(dir.to_str().unwrap()), "{typed:?}: {said}");
        }
    }
    fs::create_dir(&audit).unwrap();
    for typed in &readers {
        let said = refused(&site, typed, &[]);
        assert!(said.contains("there is no trail in this folder"), "{typed:?}: {said}");
    }
    fs::remove_dir(&audit).unwrap();
    fs::rename(&away, &audit).unwrap();
    site.verified();
    for typed in readers.iter().filter(|typed| typed[1] != "prove") {
        let done = site.run(&typed.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(done.status.code(), Some(0), "{typed:?}: {done:?}");
    }
}

#[test]
fn a_trail_without_an_event_is_not_intact() {
    let (_upstream, site, _) = trail();
    let empty = tempfile::tempdir().unwrap();
    let segment = empty.path().join("audit-000000000001-20260101T000000.000000Z.jsonl");
    for text in ["", "{\"seq\":1,\"pr"] {
        fs::write(&segment, text).unwrap();
        let done = site.run(&["audit", "verify", "--dir", empty.path().to_str().unwrap()]);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains("the trail has no event, so nothing was verified"), "{said}");
        let json =
            site.run(&["audit", "verify", "--output", "json", "--dir", empty.path().to_str().unwrap()]);
        let report: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!((json.status.code(), report["events"].as_u64()), (Some(1), Some(0)), "{report}");
        assert!(report["finding"]["problem"].as_str().unwrap().contains("nothing was verified"), "{report}");
    }
}

#[test]
fn no_default_takes_the_place_of_a_configuration_with_an_error() {
    let (_upstream, site, heads) = trail();
    let good = fs::read_to_string(site.config()).unwrap();
    let mut readers = readers(&site, &heads);
    for verb in ["key", "fingerprint"] {
        readers.push(vec!["audit".into(), verb.into()]);
    }
    for (wrong, named) in [
        (format!("{good}[audit]\ndri = \"elsewhere\"\n"), "dri"),
        (format!("{good}[audit]\ndir = 7\n"), "dir"),
        (format!("{good}[audit"), "claviger.toml"),
        (good.replace("state_dir", "state_drr"), "state_drr"),
    ] {
        fs::write(site.config(), &wrong).unwrap();
        for typed in &readers {
            let said = refused(&site, typed, &[]);
            assert!(said.contains(named) && said.contains("claviger.toml"), "{typed:?} {named}: {said}");
        }
        // In the default place, and in a named one.
        for (here, arguments) in [
            (site.folder.path(), &[] as &[&str]),
            (Path::new("/"), &["--config", site.config().to_str().unwrap()]),
        ] {
            let mut command = site.claviger();
            command.env_remove("CLAVIGER_CONFIG").current_dir(here).args(["audit", "verify"]).args(arguments);
            let done = command.output().unwrap();
            assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{done:?}");
        }
    }
    fs::remove_file(site.config()).unwrap();
    for typed in readers {
        assert!(refused(&site, &typed, &[]).contains("claviger.toml"));
    }
}

#[test]
fn the_key_of_the_gateway_is_needed_or_another_is_given() {
    let (_upstream, site, _) = trail();
    let key = site.folder.path().join("state/audit.pub");
    let shown = fs::read_to_string(&key).unwrap();
    for wrong in [None, Some("no key\n")] {
        fs::remove_file(&key).unwrap();
        if let Some(wrong) = wrong {
            fs::write(&key, wrong).unwrap();
        }
        let done = site.run(&["audit", "verify"]);
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains("audit.pub") && said.contains("--key"), "{said}");
        let given = site.run(&["audit", "verify", "--key", shown.trim_end()]);
        assert_eq!(given.status.code(), Some(0), "{given:?}");
        fs::write(&key, "").unwrap();
    }
}

#[test]
fn what_was_verified_is_said() {
    let (_upstream, site, _) = trail();
    let events = site.events();
    let (first, last) = (&events[0]["time"], &events[events.len() - 1]["time"]);
    let report = site.verified();
    assert_eq!((&report["first"], &report["last"]), (first, last));
    assert_eq!(report["dir"], site.audit().to_str().unwrap());
    let text = site.run(&["audit", "verify"]);
    let said = String::from_utf8(text.stdout).unwrap();
    for wanted in [
        format!("the trail is intact: {} events in 1 segments\n", events.len()),
        format!("of {} to {}", first.as_str().unwrap(), last.as_str().unwrap()),
        site.audit().display().to_string(),
        format!("the last head covers {} events", events.len() - 1),
    ] {
        assert!(said.contains(&wanted), "{wanted}: {said}");
    }
}

/// Characters that make a terminal act, or that it shows misleadingly.
const DECEPTIVE: &str =
    "\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{200b}\u{feff}\u{2028}\u{85}\r\u{1b}]0;x\u{7}\nforged";

fn is_harmless(character: char) -> bool {
    character == '\n'
        || !character.is_control() && !DECEPTIVE.replace(char::is_alphanumeric, "").contains(character)
        || matches!(character, ']' | ';')
}

/// A trail whose lines contain texts that no gateway writes unescaped, with correct hashes.
fn hostile(dir: &Path) {
    let (mut head, mut lines) = (ChainHead::default(), Vec::new());
    // Escaped only as far as JSON requires.
    let odd = serde_json::to_string(DECEPTIVE).unwrap();
    let call = format!(
        "\"request_id\":\"01890000-0000-7000-8000-000000000001\",\"consumer\":\"tool\",\"upstream\":\"jms\",\
         \"method\":\"POST\",\"target\":\"/api/v1/x/\",\"org\":{odd},\"rule\":{odd},\"user_agent\":{odd}"
    );
    for (event, members) in [
        ("journal", format!("\"what\":{odd},\"refusals\":1,\"since\":{odd},\"peer\":{odd}")),
        ("admin", format!("\"what\":{odd},\"consumer\":{odd},\"by\":{odd}")),
        ("intent", format!("{call},\"decision\":\"allowed\"")),
        ("outcome", format!("{call},\"decision\":\"allowed\",\"code\":{odd},\"status\":200,\"ended\":{odd}")),
    ] {
        head.append(&mut lines, |out| {
            let text = format!("\"time\":\"2026-01-01T00:00:00.000000Z\",\"event\":\"{event}\",{members}");
            out.extend_from_slice(text.as_bytes());
        });
    }
    fs::write(dir.join("audit-000000000001-20260101T000000.000000Z.jsonl"), lines).unwrap();
}

#[test]
fn nothing_of_a_hostile_trail_reaches_a_terminal_but_what_it_is() {
    let (_upstream, site, _) = trail();
    let dir = tempfile::tempdir().unwrap();
    hostile(dir.path());
    let at = dir.path().to_str().unwrap();
    let run = |typed: &str| {
        let done = site.run(&[&typed.split(' ').collect::<Vec<_>>()[..], &["--dir", at]].concat());
        let said = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
        let harmful: String = said.chars().filter(|character| !is_harmless(*character)).collect();
        assert!(harmful.is_empty(), "{typed}: {harmful:?} in {said:?}");
        assert!(!said.lines().any(|line| line.starts_with("forged")), "{typed}: {said}");
        said
    };
    for (typed, lines) in [("audit show", 4), ("audit tail", 4), ("audit search", 3)] {
        let said = run(typed);
        assert_eq!(said.lines().filter(|line| line.contains("  2026-01-01")).count(), lines, "{said}");
        assert!(
            said.contains("\\u202e") && said.contains("\\u009b31m") && said.contains("\\u000aforged"),
            "{said}"
        );
        let json = run(&format!("{typed} --output json"));
        let events: Vec<Value> = json
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), lines, "{json}");
        let said = [&events[0]["what"], &events[lines - 1]["org"]];
        assert_eq!(said, [DECEPTIVE, DECEPTIVE], "the same value, spelt otherwise");
    }
    let learned = run("policy learn --consumer tool");
    assert!(learned.contains("orgs = [") && learned.contains("\\u202e"), "{learned}");
    // Two findings of `verify`: the name of a file, and a second intent of a call.
    let odd = dir.path().join("audit-0\u{1b}[2J\u{202e}.jsonl");
    fs::write(&odd, "no line\n").unwrap();
    assert!(run("audit verify").contains("audit-0\\u001b[2J\\u202e.jsonl:1"));
    run("audit verify --output json");
    fs::remove_file(&odd).unwrap();
    fs::write(dir.path().join("audit-y\u{9b}J.jsonl.zst"), "no frame").unwrap();
    run("audit verify");
    run("audit show");
}
