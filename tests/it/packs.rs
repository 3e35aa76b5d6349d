//! The roles that ship: each decides as its table in `packs/` says, through the policy that decides on real calls.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use claviger::clock::http_date;
use claviger::code::Code;
use claviger::config::{self, Surroundings};
use claviger::gateway::Snapshot;
use claviger::gateway::trial::{Call, Verdict, attempt};
use claviger::policy::Members;
use claviger::signature::HmacKey;
use http::{HeaderMap, Method};
use toml::{Table, Value};

use crate::exchanges::text_files;

const PRODUCTS: [&str; 4] = ["jumpserver", "jumpcloud", "foresight", "ops"];

/// Every method that a server may know, and two that only look like one.
const METHODS: [&str; 9] = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "get", "PURGE"];

/// The decision, by the rule that made it.
struct Decided {
    code: Option<Code>,
    rule: Option<String>,
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/packs"))
}

/// A pack as it is shipped.
fn pack(product: &str) -> Table {
    let path = format!("{}/config/roles/{product}.toml", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap().parse::<Table>().unwrap()["roles"].as_table().unwrap().clone()
}

/// A gateway whose consumer `tool` has these roles at that product.
fn granted(product: &str, roles: &[&str]) -> Snapshot {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().join("claviger.toml");
    let (profile, org) = match product {
        "ops" => ("plain", ""),
        "foresight" => (product, ""),
        _ => (product, "org = \"5e9f\""),
    };
    let config = format!(
        r#"
[upstreams.it]
profile = "{profile}"
endpoint = "https://upstream.example.com"
{org}
credential = "key"
scheme.bearer = {{}}
[credentials.key]
value = {{ env = "KEY" }}
[[routes]]
prefix = "/"
upstream = "it"
[consumers.tool]
[[grants]]
consumer = "tool"
upstream = "it"
roles = {roles:?}
"#
    );
    std::fs::write(&path, config).unwrap();
    let around = Surroundings {
        environment: &|_| Some("fake-key".to_owned()),
        now: SystemTime::now(),
        failures: Arc::default(),
        former: None,
        fingerprints: HmacKey::new(b"test"),
        following: false,
        stored: None,
    };
    match config::load(&path, around) {
        Ok((_, compiled, problems)) => {
            assert!(problems.is_empty(), "{}", problems.render(false));
            compiled.snapshot
        }
        Err(problems) => panic!("{}", problems.render(false)),
    }
}

fn decide(snapshot: &Snapshot, method: &str, target: &str) -> Decided {
    decide_on(snapshot, (method, target), Members::none())
}

fn decide_on(snapshot: &Snapshot, (method, target): (&str, &str), body: Members) -> Decided {
    let (method, target) = (Method::from_bytes(method.as_bytes()).unwrap(), target.to_owned());
    let now = SystemTime::now();
    let call = Call { method, host: "gw.test".into(), target, headers: HeaderMap::new(), body };
    let (trial, verdict) = attempt(snapshot, "tool", &call, (now, &http_date(now))).unwrap();
    match verdict {
        Verdict::Allowed { .. } => Decided { code: None, rule: trial.rule },
        Verdict::Denied { code, .. } => Decided { code: Some(code), rule: trial.rule },
    }
}

/// The lines of a table that say something.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.starts_with("# "), "{}: the first line tells what it is", path.display());
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(String::from).collect()
}

#[test]
fn every_role_decides_as_its_table_says() {
    let mut tables: BTreeSet<_> = text_files(folder()).into_iter().collect();
    let mut wrong = Vec::new();
    for product in PRODUCTS {
        tables.remove(&folder().join(format!("never-{product}.txt")));
        for role in pack(product).keys().filter(|role| *role != "no-new-keys") {
            let name = format!("{product}:{role}");
            let snapshot = granted(product, &[&name]);
            let path = folder().join(format!("{product}-{role}.txt"));
            assert!(tables.remove(&path), "{name} has no table");
            let mut counts = (0, 0);
            for line in lines(&path) {
                let mut words = line.split_whitespace();
                let (Some(wanted), Some(method), Some(target)) = (words.next(), words.next(), words.next())
                else {
                    panic!("{name}: {line}")
                };
                let body = words.next().map_or_else(Members::none, |body| Members::read(body.as_bytes()));
                let decided = decide_on(&snapshot, (method, target), body);
                let got = if decided.code.is_none() { "allowed" } else { "denied" };
                if got != wanted {
                    wrong.push(format!("{name}: {line}: {got} by {:?} {:?}", decided.rule, decided.code));
                }
                let count = if wanted == "allowed" { &mut counts.0 } else { &mut counts.1 };
                *count += 1;
                let own = decided.rule.as_deref().unwrap_or(product);
                assert!(own.starts_with(product), "{name}: {line}: {own}");
            }
            assert!(counts.0 >= 8 && counts.1 >= 10, "{name} has few lines: {counts:?}");
        }
    }
    assert!(tables.is_empty(), "tables of no role: {tables:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_role_lets_keys_be_minted_by_any_method() {
    for product in PRODUCTS {
        let targets = lines(&folder().join(format!("never-{product}.txt")));
        assert!(targets.len() >= 25);
        for role in pack(product).keys() {
            let name = format!("{product}:{role}");
            let alone = granted(product, &[&name]);
            for (target, method) in targets.iter().flat_map(|target| METHODS.map(|method| (target, method))) {
                let decided = decide(&alone, method, target);
                assert_eq!(decided.code, Some(Code::DeniedByRule), "{name}: {method} {target}");
            }
        }
    }
}

/// What holds for one role holds for all together: none opens what another leaves closed.
#[test]
fn all_roles_together_mint_no_keys_either() {
    for product in PRODUCTS {
        let names: Vec<String> = pack(product).keys().map(|role| format!("{product}:{role}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let all = granted(product, &names);
        for target in lines(&folder().join(format!("never-{product}.txt"))) {
            for method in METHODS {
                assert_eq!(decide(&all, method, &target).code, Some(Code::DeniedByRule), "{method} {target}");
            }
        }
    }
}

/// The paths of a role's allow rules, with the methods that each is for; a POST whose body only asks counts
/// as a GET.
fn allowed(role: &Value) -> Vec<(Vec<&str>, &str, bool)> {
    let rules = role.get("allow").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts = |value: &'_ Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut found = Vec::new();
    for rule in rules {
        assert!(!texts(&rule["methods"]).is_empty());
        let asks = rule.get("body").and_then(|body| body["action"].as_str()).unwrap_or_default();
        let methods: Vec<&str> = match asks {
            "list" | "get" => vec!["GET"],
            _ => rule["methods"].as_array().unwrap().iter().filter_map(Value::as_str).collect(),
        };
        for path in rule["paths"].as_array().unwrap() {
            found.push((methods.clone(), path.as_str().unwrap(), rule.get("query").is_some()));
        }
    }
    found
}

#[test]
fn no_role_changes_a_whole_list() {
    const WRITES: [&str; 4] = ["PUT", "PATCH", "DELETE", "delete"];
    for product in PRODUCTS {
        for (role, rules) in pack(product) {
            let name = format!("{product}:{role}");
            let snapshot = granted(product, &[&name]);
            for (methods, path, filtered) in allowed(&rules) {
                assert!(!path.contains("**"), "{name} allows {path}: an exact shape is wanted");
                let reads = methods.iter().all(|method| ["GET", "HEAD", "OPTIONS"].contains(method));
                assert!(reads || !["read-only", "auditor"].contains(&role.as_str()), "{name}: {methods:?}");
                assert!(!filtered || methods == ["DELETE"], "{name}: {path}");
                if path.contains('*') {
                    continue;
                }
                for method in WRITES {
                    for spelled in ["", "/", "?", ".json", "?name=a", "?username=", "?username=a&username=b"]
                    {
                        let target = format!("{path}{spelled}");
                        let code = decide(&snapshot, method, &target).code;
                        assert!(code.is_some(), "{name}: {method} {target}");
                    }
                }
            }
        }
    }
}
