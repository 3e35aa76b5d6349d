//! The commands of the README's "Run it", and those of the page on JumpCloud, work as written.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::process::{Site, get};
use crate::support::upstream::{KEY_ID, Reply, SECRET, Upstream};

/// The texts of the code blocks in `language` of a document, from the given heading on.
fn blocks(document: &str, heading: &str, language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(path).unwrap();
    let part = text.split(heading).nth(1).unwrap().to_owned();
    let fence = format!("```{language}");
    let after_fence = part.split(fence.as_str()).skip(1).map(|rest| rest.split_once('\n').unwrap().1);
    after_fence.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Runs lines of a document in a shell, in `folder`, and returns their output.
fn typed(folder: &Path, lines: &str, secret: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_claviger")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euc", lines]).current_dir(folder).env("PATH", path).env_remove("CLAVIGER_CONFIG");
    let mut shell =
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    let done = shell.wait_with_output().unwrap();
    assert!(done.status.success(), "{lines}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn token_in(printed: &str) -> String {
    let mut words = printed.split_whitespace().filter(|word| word.starts_with("clv_"));
    words.next_back().unwrap_or_else(|| panic!("no token in {printed}")).to_owned()
}

#[test]
fn its_lines_lead_from_nothing_to_calls_that_jumpserver_and_jumpcloud_take() {
    const API_KEY: &str = "fake-jumpcloud-api-key";
    let upstream = Upstream::start(|_| Reply::json("{}"));
    let site = Site::new(upstream.address, "");
    let jumpserver = &blocks("README.md", "\n## Run it\n", "sh")[0];
    let (page, heading) = ("docs/en/upstreams/jumpcloud.md", "\n## With an API key\n");
    let (jumpcloud, more) = (&blocks(page, heading, "sh")[0], &blocks(page, heading, "toml")[0]);

    // All but the last line, which serves until it is stopped.
    let until_it_serves = |lines: &str| lines.trim_end().strip_suffix("claviger serve").unwrap().to_owned();
    let lines = until_it_serves(jumpserver).replace("UUID", KEY_ID);
    let printed = typed(site.folder.path(), &lines, SECRET);
    let script = token_in(&printed);
    assert!(
        printed.contains("(request-target): get /api/v1/users/users/"),
        "explain says what is signed: {printed}"
    );

    let folder = site.folder.path().join("gateway");
    let config = folder.join("claviger.toml");
    let here = format!("http://{}", upstream.address);
    let text = format!("{}\n{more}", fs::read_to_string(&config).unwrap());
    let text = text.replace("https://jms.example.com", &here).replace("https://console.jumpcloud.com", &here);
    let text =
        text.replace("127.0.0.1:7070", "127.0.0.1:0").replace("127.0.0.1:7071", &site.admin.to_string());
    fs::write(&config, text).unwrap();
    let sync = token_in(&typed(&folder, &until_it_serves(jumpcloud), API_KEY));

    let process = site.launch(site.claviger().env("CLAVIGER_CONFIG", &config).arg("serve"));
    assert_eq!(get(process.address, "/api/v1/users/users/", &script).status, 200);
    assert_eq!(get(process.address, "/jumpcloud/api/systemusers", &sync).status, 200);
    assert_eq!(get(process.address, "/jumpcloud/api/systemusers", &script).status, 403);
    let seen = upstream.seen();
    let [to_jumpserver, to_jumpcloud] = &seen[..] else { panic!("{seen:?}") };
    to_jumpserver.signed_for("/api/v1/users/users/").unwrap();
    assert_eq!((to_jumpcloud.target.as_str(), to_jumpcloud.one("x-api-key")), ("/api/systemusers", API_KEY));
    assert!(more.contains(to_jumpcloud.one("x-org-id")));
    assert_eq!(process.end().0, Some(0));
}
