//! How consumers authenticate, and every way that claviger does not accept.

use crate::support::ledger::{ANSWERED, Ledger, request};
use crate::support::upstream::Upstream;
use crate::support::world::{CONFIG, OTHER_TOKEN, TOKEN, World};

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gw.test\r\n{lines}\r\n")
}

#[test]
fn no_wrong_or_near_miss_token_is_one_and_the_same_401() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let near =
        [&TOKEN[..TOKEN.len() - 1], &format!("{TOKEN}x"), &TOKEN.to_uppercase(), &TOKEN.replace('_', "-")];
    let mut cases = vec![("none", String::new())];
    for token in near {
        cases.push(("near miss", format!("Authorization: Bearer {token}\r\n")));
    }
    for (name, line) in [
        ("no scheme", format!("Authorization: {TOKEN}\r\n")),
        ("another scheme", format!("Authorization: Digest {TOKEN}\r\n")),
        ("scheme alone", "Authorization: Bearer\r\n".to_owned()),
        ("empty", "Authorization:\r\n".to_owned()),
        ("two words", format!("Authorization: Bearer {TOKEN} {TOKEN}\r\n")),
        ("no base64", "Authorization: Basic !!!\r\n".to_owned()),
        ("token as a name", "Authorization: Basic Y2x2X2Zha2VfdG9rZW5fb2ZfdGhlX3Rvb2w6\r\n".to_owned()),
        ("wrong key", "x-api-key: clv_fake_wrong\r\n".to_owned()),
        ("empty key", "x-api-key:\r\n".to_owned()),
        (
            "digest of the token",
            format!(
                "Authorization: Bearer {}\r\n",
                crate::support::world::fill("@TOKEN@", ([0; 4], 1).into())
            ),
        ),
        ("a list", format!("Authorization: Bearer {TOKEN}, Bearer {TOKEN}\r\n")),
        ("a list with another scheme", format!("Authorization: Bearer {TOKEN}, Basic eDp5\r\n")),
        ("a list of keys", format!("x-api-key: {TOKEN}, {TOKEN}\r\n")),
        ("in a cookie", format!("Cookie: token={TOKEN}; Authorization={TOKEN}\r\n")),
        ("underscore twin", format!("x_api_key: {TOKEN}\r\n")),
        ("proxy's header", format!("Proxy-Authorization: Bearer {TOKEN}\r\n")),
    ] {
        cases.push((name, line));
    }
    let mut bodies = Vec::new();
    for (name, lines) in &cases {
        let answer = ledger.denied(name, get("/api/", lines), 401, "unauthenticated");
        assert!(answer.header("www-authenticate").is_some(), "{name}");
        let mut body = answer.json();
        body["request_id"] = "".into();
        bodies.push((body, answer.head.lines().count()));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    for (outcome, (name, lines)) in ledger.check().iter().zip(&cases) {
        let sent = lines.starts_with("Authorization:") || lines.starts_with("x-api-key: ");
        assert_eq!(outcome["fingerprint"].is_string(), sent, "{name}: {outcome}");
        assert!(!outcome.to_string().contains(TOKEN), "{name}: {outcome}");
        assert_eq!(outcome["consumer"], serde_json::Value::Null, "{name}");
    }
}

#[test]
fn a_wrong_token_is_recorded_by_a_fingerprint_that_tells_it_from_others() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for token in ["clv_fake_lost", "clv_fake_lost", "clv_fake_found"] {
        ledger.denied(
            token,
            get("/api/", &format!("Authorization: Bearer {token}\r\n")),
            401,
            "unauthenticated",
        );
    }
    let shown = ledger.check();
    assert_eq!(shown[0]["fingerprint"], shown[1]["fingerprint"]);
    assert_ne!(shown[0]["fingerprint"], shown[2]["fingerprint"]);
    // 132 bits in base64: nobody finds a match by chance.
    assert_eq!(shown[0]["fingerprint"].as_str().map(str::len), Some(22));
}

#[test]
fn two_credentials_at_once_are_refused_whichever_is_good() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    let key = format!("X-API-Key: {TOKEN}\r\n");
    for (name, lines) in [
        ("twice the same", format!("{good}{good}")),
        ("good first", format!("{good}Authorization: Bearer x\r\n")),
        ("good last", format!("Authorization: Bearer x\r\n{good}")),
        ("two good ones", format!("{good}AUTHORIZATION: Bearer {OTHER_TOKEN}\r\n")),
        ("two schemes", format!("{good}Authorization: Token {TOKEN}\r\n")),
        ("two spellings", format!("{good}{key}")),
        ("two spellings, one wrong", format!("Authorization: Basic eDp5\r\n{key}")),
        ("an empty one beside a good one", format!("Authorization:\r\n{key}")),
        ("two keys", format!("{key}{key}")),
    ] {
        ledger.denied(name, get("/api/", &lines), 400, "duplicate_credential");
    }
    ledger.check();
}

#[test]
fn a_token_in_the_query_is_none_and_is_masked() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for name in ["token", "access_token", "api_key", "x-api-key", "Private-TOKEN", "%74oken", "credential"] {
        ledger.denied(name, get(&format!("/api/?a=1&{name}={TOKEN}"), ""), 401, "unauthenticated");
    }
    for outcome in ledger.check() {
        let target = outcome["target"].as_str().unwrap();
        assert!(target.starts_with("/api/?a=1&") && target.ends_with("=***"), "{target}");
        assert!(!outcome.to_string().contains(TOKEN));
    }
}

#[test]
fn every_spelling_of_a_good_token_works_and_none_goes_upstream() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let lines = [
        format!("Authorization: Bearer {TOKEN}\r\n"),
        format!("authorization: bEARER   {TOKEN}  \r\n"),
        format!("Authorization: token {TOKEN}\r\n"),
        "Authorization: Basic YW55OmNsdl9mYWtlX3Rva2VuX29mX3RoZV90b29s\r\n".to_owned(),
        format!("x-api-key: {TOKEN}\r\n"),
    ];
    for line in &lines {
        let answer = ledger.world.exchange(get("/api/", line));
        ledger.note(line, &answer, 200, ANSWERED);
    }
    for seen in ledger.world.upstream.seen() {
        assert_eq!(seen.unsigned, None, "{}", seen.raw_head);
        assert!(!seen.raw_head.contains(TOKEN) && seen.all("x-api-key").is_empty(), "{}", seen.raw_head);
        assert!(!seen.raw_head.contains("YW55Om"), "{}", seen.raw_head);
    }
    let via: Vec<String> =
        ledger.check().iter().map(|outcome| outcome["via"].as_str().unwrap().to_owned()).collect();
    assert_eq!(via, ["bearer", "bearer", "token", "basic", "x-api-key"]);
}

#[test]
fn guessing_ends_in_one_lockout_and_never_holds_up_a_good_token() {
    let config = CONFIG.replace("[limits]", "[limits]\nauth_failures_per_minute = 3");
    let mut ledger = Ledger::new(World::with(Upstream::ok(), &config));
    for attempt in ["first", "second", "third"] {
        let lines = format!("Authorization: Bearer {attempt}\r\n");
        ledger.denied(attempt, get("/api/", &lines), 401, "unauthenticated");
    }
    let lockout = ledger.denied("fourth", get("/api/", "x-api-key: fourth\r\n"), 429, "too_many_failures");
    assert_eq!(lockout.header("retry-after"), Some("60"));
    for _flood in 0..5 {
        let answer = ledger.world.exchange(get("/api/", ""));
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_failures"));
        assert!(answer.header("retry-after").is_some());
    }
    let answer = ledger.world.exchange(request("GET", "/api/", ""));
    ledger.note("a good token", &answer, 200, ANSWERED);
    ledger.check();
}
