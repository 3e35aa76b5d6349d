//! Reading the trail: `audit search`, `audit tail`, `audit export`, `audit fingerprint`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use claviger::audit::{is_compressed, segments};
use serde_json::Value;
use sqlx::{Column as _, ConnectOptions as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::support::process::{Process, Site, get};
use crate::support::upstream::{Reply, Upstream};
use crate::support::wait::until;
use crate::support::world::TOKEN;

const SMALL: &str = "[audit]\nrotate = \"16KiB\"\ncheckpoint_events = 10\n";

fn found(site: &Site, arguments: &[&str]) -> Vec<Value> {
    let done = site.run(&[&["audit", "search", "--output", "json"], arguments].concat());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.code().unwrap() < 2 && (said.is_empty() || said.starts_with("there are more")),
        "{done:?}"
    );
    let lines = String::from_utf8(done.stdout).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(done.status.code(), Some(i32::from(events.is_empty())), "1 where nothing is found");
    events
}

fn targets(site: &Site, arguments: &[&str]) -> Vec<String> {
    found(site, arguments).iter().map(|event| event["target"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Calls of several kinds.
fn calls(process: &Process) {
    for number in 0..60 {
        assert_eq!(process.get(&format!("/api/v1/users/{number}/?limit=1")).status, 200);
    }
    assert_eq!(process.get("/api/v1/assets/hosts/").status, 200);
    assert_eq!(get(process.address, "/api/v1/users/", "wrong").status, 401);
    assert_eq!(process.get("/api/v1/users/../roles/").status, 400);
}

#[test]
fn events_are_found_by_each_condition_and_by_several() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    calls(&process);
    // While a gateway runs; the first search builds the index.
    assert_eq!(targets(&site, &["--path", "/api/v1/assets/**"]), ["/api/v1/assets/hosts/"]);
    assert_eq!(targets(&site, &["--path", "/api/v1/users/7"]), ["/api/v1/users/7/?limit=1"]);
    assert_eq!(targets(&site, &["--path", "/api/v1/users/*", "--last", "100"]).len(), 60);
    assert_eq!(targets(&site, &["--path", "/api/*/users/**", "--last", "100"]).len(), 62);
    assert!(targets(&site, &["--path", "/api/v2/*"]).is_empty());
    let refused = found(&site, &["--status", "401"]);
    assert_eq!((refused.len(), &refused[0]["ended"]), (1, &"refused".into()));
    let code = refused[0]["code"].as_str().unwrap();
    assert_eq!(found(&site, &["--code", code]), refused);
    assert_eq!(found(&site, &["--request-id", refused[0]["request_id"].as_str().unwrap()]), refused);
    let consumer = found(&site, &["--path", "/api/v1/users/7"])[0]["consumer"].as_str().unwrap().to_owned();
    assert_eq!(found(&site, &["--consumer", &consumer, "--last", "1000", "--event", "outcome"]).len(), 61);
    assert_eq!(found(&site, &["--consumer", &consumer, "--status", "401"]).len(), 0);
    assert_eq!(found(&site, &["--consumer", "nobody"]).len(), 0);
    let credential = found(&site, &["--status", "200", "--last", "1"]);
    let name = credential[0]["credential"].as_str().unwrap();
    let version = credential[0]["credential_version"].to_string();
    assert_eq!(found(&site, &["--credential", name, "--version", &version, "--last", "99"]).len(), 61);
    assert!(found(&site, &["--credential", name, "--version", "9"]).is_empty());
    // A text, in any case and at any place.
    assert_eq!(targets(&site, &["--text", "ASSETS/h"]), ["/api/v1/assets/hosts/"]);
    assert_eq!(found(&site, &["--text", "users/1", "--last", "99"]).len(), 11);
    assert!(found(&site, &["--text", "users_1"]).is_empty(), "no pattern");
    assert!(!found(&site, &["--text", "opened", "--event", "journal"]).is_empty());
    assert_eq!(found(&site, &["--text", "127.0.0.1", "--method", "GET", "--last", "99"]).len(), 63);
    // The latest events, in chronological order.
    let last = targets(&site, &["--path", "/api/v1/users/*", "--last", "2"]);
    assert_eq!(last, ["/api/v1/users/58/?limit=1", "/api/v1/users/59/?limit=1"]);
    let text = site.run(&["audit", "search", "--path", "/api/v1/users/*", "--last", "2"]);
    assert!(String::from_utf8_lossy(&text.stderr).contains("there are more"), "{text:?}");
    // By time.
    let tenth = found(&site, &["--path", "/api/v1/users/10"])[0]["time"].as_str().unwrap().to_owned();
    let until = targets(&site, &["--until", &tenth, "--path", "/api/v1/users/*"]);
    assert_eq!((until.len(), until.last().unwrap().as_str()), (11, "/api/v1/users/10/?limit=1"));
    assert_eq!(found(&site, &["--since", &tenth, "--path", "/api/v1/users/*"]).len(), 50);
    assert!(found(&site, &["--since", "2099-01-01T00:00:00Z"]).is_empty());
    assert_eq!(process.end().0, Some(0));
    site.verified();
}

#[test]
fn a_call_in_flight_is_found_and_then_its_outcome() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let upstream = Upstream::start(move |_| {
        held.lock().unwrap().recv().unwrap_err();
        Reply::json("{}")
    });
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    let address = process.address;
    let call = std::thread::spawn(move || get(address, "/api/v1/slow/", TOKEN));
    let end = std::time::Instant::now() + crate::support::process::PATIENCE;
    let mut open = Vec::new();
    while open.is_empty() {
        assert!(std::time::Instant::now() < end);
        open = found(&site, &["--path", "/api/v1/slow"]);
    }
    assert_eq!((open.len(), &open[0]["event"]), (1, &"intent".into()));
    assert_eq!(found(&site, &["--event", "intent", "--consumer", "nobody"]).len(), 0);
    drop(release);
    assert_eq!(call.join().unwrap().status, 200);
    assert_eq!(process.end().0, Some(0));
    let closed = found(&site, &["--path", "/api/v1/slow"]);
    assert_eq!((closed.len(), &closed[0]["ended"]), (1, &"answered".into()));
    assert_eq!(closed[0]["request_id"], open[0]["request_id"]);
}

/// The whole contents of an index, as text.
fn dumped(path: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        let mut text = String::new();
        for table in ["reached", "segments", "kinds", "targets", "details", "events", "spans", "open"] {
            let all = sqlx::AssertSqlSafe(format!("SELECT * FROM {table} ORDER BY 1"));
            for row in sqlx::query(all).fetch_all(&mut connection).await.unwrap() {
                for column in row.columns() {
                    let value = row.try_get_raw(column.ordinal()).unwrap();
                    let shown = match value.type_info().name() {
                        "INTEGER" => row.get::<i64, _>(column.ordinal()).to_string(),
                        "BLOB" => format!("{:?}", row.get::<Vec<u8>, _>(column.ordinal())),
                        _ => format!("{:?}", row.get::<Option<String>, _>(column.ordinal())),
                    };
                    writeln!(text, "{table}.{} {shown}", column.name()).unwrap();
                }
            }
        }
        text
    })
}

#[test]
fn an_index_made_anew_is_the_same_as_one_that_grew() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    let grown = site.audit().join("search.db");
    for _ in 0..3 {
        calls(&process);
        found(&site, &["--last", "1"]);
    }
    assert_eq!(process.end().0, Some(0));
    found(&site, &["--last", "1"]);
    let other = site.folder.path().join("other.db");
    found(&site, &["--index", other.to_str().unwrap(), "--last", "1"]);
    let (grown, anew) = (dumped(&grown), dumped(&other));
    assert!(grown.lines().count() > 1000);
    assert_eq!(grown, anew);
    found(&site, &["--index", other.to_str().unwrap(), "--rebuild", "--last", "1"]);
    assert_eq!(dumped(&other), grown);
}

#[test]
fn compressed_and_departed_segments_are_followed() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, &format!("{SMALL}compress_after = \"0s\"\n"));
    let process = site.start();
    calls(&process);
    assert_eq!(found(&site, &["--path", "/api/v1/users/3"]).len(), 1);
    let closed_are_packed =
        || segments(&site.audit()).unwrap().iter().rev().skip(1).all(|path| is_compressed(path));
    until("closed segments are compressed", closed_are_packed);
    let third = found(&site, &["--path", "/api/v1/users/3"]);
    assert_eq!(third[0]["target"], "/api/v1/users/3/?limit=1");
    assert_eq!(process.end().0, Some(0));
    // The search no longer finds deleted events, and finds the rest.
    let more = fs::read_to_string(site.config()).unwrap();
    site.write(&format!("{more}retain_size = \"6KiB\"\n"));
    let process = site.start();
    until("the oldest is let go", || site.events()[0]["seq"] != 1);
    assert_eq!(process.get("/api/v1/users/new/").status, 200);
    assert_eq!(process.end().0, Some(0));
    assert!(found(&site, &["--path", "/api/v1/users/3"]).is_empty());
    assert_eq!(found(&site, &["--path", "/api/v1/users/new"]).len(), 1);
}

#[test]
fn an_index_that_does_not_fit_its_trail_is_made_anew_and_altered_lines_are_not_shown() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    calls(&process);
    assert_eq!(process.end().0, Some(0));
    assert_eq!(found(&site, &["--path", "/api/v1/users/3"]).len(), 1);
    let path = segments(&site.audit()).unwrap().remove(0);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("/api/v1/users/3/", "/api/v1/users/4/")).unwrap();
    let done = site.run(&["audit", "search", "--path", "/api/v1/users/3"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("is not where the index has it"), "{done:?}");
    // Another trail in its place.
    fs::remove_file(&path).unwrap();
    let other = Site::new(upstream.address, "");
    let process = other.start();
    assert_eq!(process.get("/api/v1/other/").status, 200);
    assert_eq!(process.end().0, Some(0));
    fs::copy(segments(&other.audit()).unwrap().remove(0), &path).unwrap();
    assert!(found(&site, &["--path", "/api/v1/users/3"]).is_empty());
    assert_eq!(found(&site, &["--path", "/api/v1/other"]).len(), 1);
    // Another file in the place of the index.
    fs::write(site.audit().join("search.db"), "no index").unwrap();
    let done = site.run(&["audit", "search"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("--rebuild"), "{done:?}");
    assert_eq!(found(&site, &["--path", "/api/v1/other", "--rebuild"]).len(), 1);
}

#[test]
fn an_index_is_made_anew_of_all_segments() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    calls(&process);
    assert_eq!(process.end().0, Some(0));
    assert_eq!(found(&site, &["--path", "/api/v1/users/3"]).len(), 1);
    // The line that the search read last has changed.
    let last = segments(&site.audit()).unwrap().pop().unwrap();
    let text = fs::read_to_string(&last).unwrap();
    let (before, end) = text.split_at(text.trim_end().rfind('\n').map_or(0, |at| at + 1));
    fs::write(&last, format!("{before}{}", end.replace(':', ": "))).unwrap();
    assert_eq!(found(&site, &["--path", "/api/v1/users/3"]).len(), 1);
}

#[test]
fn tail_follows_through_rotation_and_ends_with_its_reader() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    assert_eq!(process.get("/api/v1/before/").status, 200);
    let mut command = site.claviger();
    command.args(["audit", "tail", "-f", "-n", "1", "--event", "outcome", "--output", "json"]);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["target"], "/api/v1/before/");
    for number in 0..60 {
        assert_eq!(process.get(&format!("/api/v1/{number}/")).status, 200);
    }
    for number in 0..60 {
        assert_eq!(next()["target"], format!("/api/v1/{number}/"));
    }
    assert!(segments(&site.audit()).unwrap().len() > 2);
    drop(lines);
    assert_eq!(process.get("/api/v1/unread/").status, 200);
    assert!(tail.wait().unwrap().success());
    // Colours only for terminals, or on request.
    let shown = |colour: Option<&str>| {
        let mut command = site.claviger();
        command.args(["audit", "tail", "--status", "401"]).env_remove("CLICOLOR_FORCE");
        command.envs(colour.map(|colour| ("CLICOLOR_FORCE", colour)));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(get(process.address, "/api/v1/users/", "wrong").status, 401);
    assert!(shown(Some("1")).contains("\x1b[31m"), "{}", shown(Some("1")));
    assert!(shown(None).contains("401") && !shown(None).contains('\x1b'));
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn an_export_is_whole_or_not_there() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    calls(&process);
    assert_eq!(process.end().0, Some(0));
    let file = |name: &str| site.folder.path().join(name).display().to_string();
    let lines = file("all.jsonl");
    assert_eq!(site.run(&["audit", "export", &lines]).status.code(), Some(0));
    let text: String =
        segments(&site.audit()).unwrap().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(fs::read_to_string(&lines).unwrap(), text);
    let again = site.run(&["audit", "export", &lines]);
    assert!(
        again.status.code() == Some(1) && String::from_utf8_lossy(&again.stderr).contains("exists already")
    );
    let csv = file("refused.csv");
    let done = site.run(&["audit", "export", &csv, "--format", "csv", "--status", "401", "--output", "json"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "{\"events\":1}\n");
    let text = fs::read_to_string(&csv).unwrap();
    assert!(text.starts_with("seq,time,event,") && text.lines().count() == 2, "{text}");
    let wrong = site.run(&["audit", "export", "-", "--format", "parquet"]);
    assert_eq!(wrong.status.code(), Some(1));
    let full = site.run(&["audit", "export", "/dev/full/x.csv"]);
    assert_eq!(full.status.code(), Some(1));
    let piped = site.run(&["audit", "export", "-", "--event", "head"]);
    assert!(String::from_utf8(piped.stdout).unwrap().lines().count() > 5);
}

#[test]
fn a_secret_in_hand_leads_to_the_calls_that_sent_it() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    assert_eq!(get(process.address, "/api/v1/users/", "clv_found-in-a-chat").status, 401);
    assert_eq!(get(process.address, "/api/v1/users/", "clv_another").status, 401);
    let mut child = site.claviger();
    let child = child.args(["audit", "fingerprint"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"clv_found-in-a-chat\n").unwrap();
    let printed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let events = found(&site, &["--text", printed.trim()]);
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["fingerprint"], &events[0]["status"]), (&printed.trim().into(), &401.into()));
    assert_eq!(process.end().0, Some(0));
}

/// Changes the index, as anybody with access to the folder could.
fn change(site: &Site, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(site.audit().join("search.db"));
        let mut connection = options.connect().await.unwrap();
        assert!(sqlx::raw_sql(sql).execute(&mut connection).await.unwrap().rows_affected() > 0, "{sql}");
        sqlx::Connection::close(connection).await.unwrap();
    });
}

#[test]
fn what_was_taken_out_of_the_index_is_found_all_the_same() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, "");
    let process = site.start();
    calls(&process);
    assert_eq!(process.end().0, Some(0));
    let wanted = ["audit", "search", "--path", "/api/v1/users/3", "--output", "json"];
    let all = found(&site, &["--last", "1000"]);
    assert_eq!(found(&site, &wanted[2..4]).len(), 1);
    for sql in [
        "DELETE FROM events WHERE target = (SELECT id FROM targets WHERE path = 'api/v1/users/3')",
        "DELETE FROM events",
        "DELETE FROM targets WHERE path = 'api/v1/users/3'",
        "UPDATE targets SET path = 'api/v1/users/x' WHERE path = 'api/v1/users/3'",
        "DELETE FROM kinds",
        "UPDATE kinds SET last = 1",
        "UPDATE spans SET last = 1",
        "UPDATE events SET seq = seq + 100000",
    ] {
        change(&site, sql);
        let done = site.run(&wanted);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains("was changed by something else than a search"), "{sql}: {said}");
        assert_eq!(String::from_utf8(done.stdout).unwrap().lines().count(), 1, "{sql}");
        // The rebuilt index is trusted.
        let again = site.run(&wanted);
        let said = String::from_utf8(again.stderr).unwrap();
        assert!(again.status.success() && !said.contains("was changed"), "{sql}: {said}");
    }
    assert_eq!(found(&site, &["--last", "1000"]), all);
    // An old copy that was put back is not trusted either.
    let db = site.audit().join("search.db");
    let former = fs::read(&db).unwrap();
    fs::write(&db, former).unwrap();
    assert!(String::from_utf8_lossy(&site.run(&wanted).stderr).contains("was changed"));
}

#[test]
fn a_search_says_how_far_it_reaches() {
    let upstream = Upstream::ok();
    let site = Site::new(upstream.address, SMALL);
    let process = site.start();
    calls(&process);
    let reach = |arguments: &[&str]| {
        let done = site.run(&[&["audit", "search"], arguments].concat());
        let said = String::from_utf8(done.stderr).unwrap();
        said.lines().find(|line| line.starts_with("searched ")).unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    assert!(reach(&[]).contains(" events, 1 to "));
    assert_eq!(process.end().0, Some(0));
    let events = site.events();
    let last = &events[events.len() - 1];
    for arguments in [&[] as &[&str], &["--consumer", "nobody"], &["--last", "1"]] {
        let (all, seq, time) = (events.len(), &last["seq"], last["time"].as_str().unwrap());
        assert_eq!(reach(arguments), format!("searched {all} events, 1 to {seq}, the last of {time}"));
    }
    // Many searches at once leave the same index as one.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| reach(&["--status", "200"]));
        }
    });
    assert!(!String::from_utf8_lossy(&site.run(&["audit", "search"]).stderr).contains("was changed"));
}
