//! The refusals of configurations, one case in each text file: `config_refusals/README.md`.

mod case;

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use claviger::clock::{Clock as _, SystemClock};
use claviger::config::{self, Base, CompileInputs, Problems};
use claviger::signature::HmacKey;
use rcgen::{CertificateParams, KeyPair};

use crate::cases::exchanges::pattern::matches;
use crate::cases::exchanges::text::Fault;
use crate::cases::exchanges::text_files;
use crate::support::upstream::SECRET;
use crate::support::world::fill;
use case::{Case, Said};

/// If fewer files than this are found, some are missing.
const AT_LEAST: usize = 90;

/// The sections of a valid configuration; a case replaces the sections that it contains itself.
const USUAL: [&str; 7] = [
    "[upstreams.jms]\nprofile = \"jumpserver\"\nendpoint = \"https://jms.example.com\"\ncredential = \"key\"\nscheme.access-key = {}\n",
    "[credentials.key]\naccess-key = { id = \"@KEY_ID@\", secret = { file = \"key.secret\" } }\n",
    "[[routes]]\nprefix = \"/\"\nupstream = \"jms\"\n",
    "[consumers.tool]\ntoken_sha256 = [\"@TOKEN@\"]\n",
    "[consumers.other]\ntoken_sha256 = [\"@OTHER_TOKEN@\"]\n",
    "[roles.all]\nallow = [{ paths = [\"/**\"] }]\n",
    "[[grants]]\nconsumer = \"tool\"\nupstream = \"jms\"\nroles = [\"all\"]\norgs = [\"00000000-0000-0000-0000-000000000002\"]\n",
];

#[test]
fn every_configuration_is_judged_as_its_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/config_refusals");
    let mut files = text_files(&folder);
    files.sort();
    assert!(files.len() >= AT_LEAST, "{} files, of at least {AT_LEAST}", files.len());
    let mut wrong = String::new();
    for path in &files {
        let name = path.strip_prefix(&folder).unwrap_or(path).display();
        for Fault { line, text } in faults(&std::fs::read_to_string(path).unwrap()) {
            write!(wrong, "\n  config_refusals/{name}:{line}: {text}\n").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_case_that_is_not_understood_is_refused() {
    for (line, told, text) in [
        (1, "first line", "config\n    workers = 1\n"),
        (1, "says nothing", "# A case without anything.\n"),
        (2, "no directive", "# A case with more.\nexpect\n"),
        (2, "belongs to no `config`", "# A case with more.\n    workers = 1\n"),
        (2, "do not pair", "# A case with more.\nconfig\n    a = «1\nerror x\n"),
        (4, "has no place marked", "# A case with more.\nconfig\n    a = 1\nerror x\n"),
        (2, "2 places are marked", "# A case with more.\nconfig\n    a = «1»\n    b = «2»\nerror x\n"),
        (2, "stands before", "# A case with more.\nhelp x\n"),
        (2, "file NAME MODE", "# A case with more.\nfile a\n"),
    ] {
        let fault = case::parse(text).map(|_| ()).expect_err(text);
        assert!(fault.line == line && fault.text.contains(told), "{text}\n{fault:?}");
    }
}

#[test]
fn a_case_that_is_not_so_fails() {
    let lines = |text: &str| faults(text).iter().map(|fault| fault.line).collect::<Vec<_>>();
    assert_eq!(lines("# Nothing is wrong with it.\nconfig\n    workers = 1\nloads\n"), [0; 0]);
    assert_eq!(lines("# Nothing is wrong with it.\nconfig\n    workers = «1»\nerror x\n"), [4]);
    assert_eq!(lines("# It is wrong, and elsewhere.\nconfig\n    «workers» = -1\nerror …\n"), [4]);
    assert_eq!(lines("# It is wrong, and not said so.\nconfig\n    workers = -1\nloads\n"), [1, 4]);
    assert_eq!(lines("# It shows what it must not.\nconfig\n    workers = «-1»\nerror …\nnever -1\n"), [5]);
}

/// The differences between a case and the reported problems.
fn faults(text: &str) -> Vec<Fault> {
    let case = match case::parse(text) {
        Ok(case) => case,
        Err(fault) => return vec![fault],
    };
    let folder = tempfile::tempdir().unwrap();
    place(folder.path(), &case);
    let (config, marks) = case::unmarked(&fill(&case.config(&USUAL), ([127, 0, 0, 1], 1).into()));
    let path = folder.path().join("claviger.toml");
    std::fs::write(&path, config).unwrap();
    let inputs = CompileInputs {
        environment: &|name| {
            case.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        },
        now: SystemClock.now(),
        base: Base::Start(HmacKey::new(b"fingerprints")),
        stored: None,
    };
    let (problems, loads) = match config::load(&path).and_then(|config| config.compile(&inputs)) {
        Ok((_, problems)) => (problems, true),
        Err(problems) => (problems, false),
    };
    let mut faults = compared(&case, &marks, &problems, folder.path());
    if let Some(line) = case.loads.filter(|_| !loads) {
        faults.push(Fault::new(line, "the configuration was refused"));
    }
    faults.extend(shown(&case, &problems));
    if let Some(last) = faults.last_mut() {
        write!(last.text, "\n    what was said:\n{}", problems.render(false)).unwrap();
    }
    faults
}

/// The files that the configuration refers to.
fn place(folder: &Path, case: &Case) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["gw.test".into()]).unwrap().self_signed(&key).unwrap();
    let usual = case::Placed { name: "key.secret".into(), mode: 0o600, text: Some(SECRET.into()) };
    for placed in std::iter::once(&usual).chain(&case.files) {
        let path = folder.join(&placed.name);
        match placed.text.as_deref() {
            None => std::fs::create_dir(&path).unwrap(),
            Some("{certificate}") => std::fs::write(&path, certificate.pem()).unwrap(),
            Some("{expired certificate}") => {
                let mut params = CertificateParams::new(vec!["jms.example.com".to_owned()]).unwrap();
                params.not_after = rcgen::date_time_ymd(2020, 1, 1);
                std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
            }
            Some("{key}") => std::fs::write(&path, key.serialize_pem()).unwrap(),
            Some("{another key}") => {
                std::fs::write(&path, KeyPair::generate().unwrap().serialize_pem()).unwrap();
            }
            Some(text) => std::fs::write(&path, text).unwrap(),
        }
    }
    // The test sets the mode of a folder after it has written the folder's files.
    for placed in std::iter::once(&usual).chain(&case.files).rev() {
        let mode = std::fs::Permissions::from_mode(placed.mode);
        std::fs::set_permissions(folder.join(&placed.name), mode).unwrap();
    }
}

/// The expected and the reported problems, merged in the order of the text.
fn compared(case: &Case, marks: &[(usize, usize)], problems: &Problems, folder: &Path) -> Vec<Fault> {
    let said = problems.to_json();
    let said = said.as_array().unwrap();
    let mut faults = Vec::new();
    if said.len() != case.said.len() {
        let text = format!("{} problems were to be told, {} were", case.said.len(), said.len());
        faults.push(Fault::new(case.said.first().map_or(1, |said| said.line), text));
    }
    let mut marks = marks.iter();
    for (Said { line, level, placed, title, help, related }, said) in case.said.iter().zip(said) {
        let place =
            if *placed { marks.next().map(|(line, column)| format!("{line}:{column}")) } else { None };
        let got = said.get("line").map(|line| format!("{line}:{}", said["column"]));
        let shown = problems.render(false);
        let text = |member: &str| said[member].as_str().map(String::from);
        let known = |text: &Option<String>| {
            text.as_ref().map(|text| text.replace("{dir}", &folder.display().to_string()))
        };
        for (what, wanted, got) in [
            ("level", &Some(level.clone()), text("level")),
            ("place", &place, got.clone()),
            ("title", &known(&Some(title.clone())), text("message")),
            ("help", &known(help), text("help")),
            ("related", related, said["related"]["message"].as_str().map(String::from)),
        ] {
            let same = match (wanted, &got) {
                (Some(wanted), Some(got)) => matches(wanted, got),
                (wanted, got) => wanted.is_none() && got.is_none(),
            };
            if !same {
                let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "(nothing)".into());
                faults.push(Fault::new(
                    *line,
                    format!("{what}\n      wanted  {}\n      got     {}", or(wanted), or(&got)),
                ));
            }
        }
        if let Some(got) = got.filter(|got| !shown.contains(&format!("claviger.toml:{got}"))) {
            faults.push(Fault::new(*line, format!("the rendered text does not name {got}")));
        }
    }
    faults
}

/// A fault for each secret that a reported problem contains.
fn shown(case: &Case, problems: &Problems) -> Vec<Fault> {
    let said = [problems.render(false), problems.render(true), problems.to_json().to_string()].concat();
    let contents = case.files.iter().filter_map(|file| file.text.clone().map(|text| (1, text)));
    let values = case.environment.iter().map(|(_, value)| (1, value.clone()));
    let secrets = contents.chain(values).chain(case.never.clone()).chain([(1, SECRET.into())]);
    let secrets = secrets.filter(|(_, secret)| secret.len() > 1 && said.contains(secret.trim()));
    secrets.map(|(line, _)| Fault::new(line, "what is said shows a secret")).collect()
}
