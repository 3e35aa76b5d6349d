//! The header lines of a request that reach the upstream, and those that only claviger sets.

use crate::support::ledger::{ANSWERED, Ledger, request};
use crate::support::upstream::{Seen, Upstream};
use crate::support::world::{ORG, OTHER_ORG, World};

/// Every dropped line contains this text, so that it is recognisable anywhere.
const PLANTED: &str = "planted-7f";

/// Sends one call and returns what the upstream received.
fn forwarded(ledger: &mut Ledger, name: &str, request: &str) -> Seen {
    let before = ledger.world.upstream.seen().len();
    let answer = ledger.world.exchange(request);
    ledger.note(name, &answer, 200, ANSWERED);
    let seen = ledger.world.upstream.seen();
    assert_eq!(seen.len(), before + 1, "{name}");
    let seen = seen[before].clone();
    assert_eq!(seen.unsigned, None, "{name}: {}", seen.raw_head);
    assert_eq!(seen.one("host"), ledger.world.upstream.address.to_string(), "{name}");
    for once in ["authorization", "date", "accept", "x-jms-org", "x-forwarded-proto"] {
        seen.one(once);
    }
    seen
}

#[test]
fn lines_that_are_ours_to_say_or_deceive_are_dropped() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for name in [
        "Signature",
        "Signature-Input",
        "Date",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Prefix",
        "X-Forwarded-User",
        "X-Forwarded",
        "Forwarded",
        "X-Real-IP",
        "x-real-ip",
        "X-Source",
        "X-JMS-SVC",
        "X-JMS-LOGIN-TYPE",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "True-Client-IP",
        "X-CSRFToken",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Org-Id",
        "Cookie",
        "Claviger-Error",
        "X_JMS_ORG",
        "X_Real_IP",
        "Remote_User",
        "Content_Length",
        "Transfer_Encoding",
        "HTTP_X_JMS_ORG",
        "X-JMS_ORG",
        "_",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Upgrade",
        "HTTP2-Settings",
    ] {
        let seen = forwarded(&mut ledger, name, &request("GET", "/api/", &format!("{name}: {PLANTED}\r\n")));
        assert!(!seen.raw_head.contains(PLANTED), "{name}: {}", seen.raw_head);
    }
    for outcome in ledger.check() {
        assert!(!outcome.to_string().contains(PLANTED), "{outcome}");
    }
}

/// Headers by which front proxies name the caller: a consumer must never reach a trusting upstream with one.
const IDENTITIES: &str = "
    X-Remote-User X-Remote-Groups X-Remote-Email Remote-User Remote-Groups Remote-Name Remote-Email REMOTE-ADDR
    X-Auth-Request-User X-Auth-Request-Email X-Auth-Request-Groups X-Auth-Request-Access-Token
    X-Auth-Request-Preferred-Username X-Forwarded-User X-Forwarded-Email X-Forwarded-Groups
    X-Forwarded-Preferred-Username X-Forwarded-Access-Token X-Forwarded-Client-Cert X-WEBAUTH-USER X-WEBAUTH-ROLE
    X-Authenticated-User X-Authenticated-Groups X-Authenticated-UserId X-User X-User-Id X-User-Email X-User-Roles
    X-Username X-Email X-Groups X-Roles X-Account-Id X-Tenant-Id X-Goog-Authenticated-User-Email
    X-Goog-Authenticated-User-Id X-Goog-IAP-JWT-Assertion Cf-Access-Authenticated-User-Email Cf-Access-Jwt-Assertion
    CF-Connecting-IP X-Amzn-Oidc-Data X-Amzn-Oidc-Identity X-Amzn-Oidc-Accesstoken X-MS-CLIENT-PRINCIPAL
    X-MS-CLIENT-PRINCIPAL-NAME X-MS-TOKEN-AAD-ACCESS-TOKEN Tailscale-User-Login Tailscale-User-Name Ssl-Client-Verify
    Ssl-Client-S-Dn X-SSL-Client-Cert X-SSL-Client-Verify X-Client-Cert Client-Cert Client-Cert-Chain X-ARR-ClientCert
    X-Client-IP X-Cluster-Client-IP Fastly-Client-IP X-Envoy-External-Address X-Envoy-Original-Path X-Vouch-User
    X-Vouch-IdP-AccessToken X-Authentik-Username X-Authentik-Groups X-Pomerium-Jwt-Assertion
    X-Grafana-Org-Id X-Grafana-User X-Consumer-Username X-Consumer-Custom-ID X-Credential-Identifier
    X-Token-Subject X-Userinfo X-ID-Token X-Access-Token X-Auth-Token X-Auth-User X-Auth-Email X-SSO-User
    OIDC-Claim-Sub OIDC-Claim-Email X-Shib-User eppn X-Impersonate-User Impersonate-User Impersonate-Group
    X-Original-User X-Original-Host X-Original-Method X-Host X-Rewrite-Uri X-Admin X-Internal X-Debug X-Role
    X-CSRF-Token X-XSRF-TOKEN Origin Referer Via Max-Forwards Cookie2 Authentication Www-Authenticate From
    X-Wap-Profile Baggage X-Cloud-Trace-Context Accept-Charset Sec-WebSocket-Key Sec-Fetch-Site Priority DNT";

#[test]
fn who_calls_is_never_said_by_a_header_of_the_consumers() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let names: Vec<&str> = IDENTITIES.split_whitespace().collect();
    assert!(names.len() >= 60, "{}", names.len());
    for some in names.chunks(40) {
        let lines = some.iter().map(|name| format!("{name}: {PLANTED}\r\n")).collect::<Vec<_>>().concat();
        let seen = forwarded(&mut ledger, some[0], &request("GET", "/api/", &lines));
        assert!(!seen.raw_head.contains(PLANTED), "{}", seen.raw_head);
        let outcome = ledger.world.trail().into_iter().rfind(|event| event["event"] == "outcome").unwrap();
        let dropped: Vec<&str> =
            outcome["dropped"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
        let wanted: Vec<String> = some.iter().take(32).map(|name| name.to_ascii_lowercase()).collect();
        assert_eq!(dropped[..wanted.len()], wanted);
        assert_eq!(
            dropped.get(32).copied(),
            (some.len() > 32).then(|| format!("+{}", some.len() - 32)).as_deref()
        );
    }
    for outcome in ledger.check() {
        assert!(!outcome.to_string().contains(PLANTED), "{outcome}");
    }
}

#[test]
fn lines_on_the_list_pass_as_they_are() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let lines = "User-Agent: tool/1\r\nTracestate: a\r\nTracestate: b\r\nIf-None-Match: \"x\"\r\nRange: bytes=0-1\r\n";
    let seen = forwarded(&mut ledger, "plain", &request("GET", "/api/", lines));
    assert_eq!(seen.all("tracestate"), ["a", "b"]);
    assert_eq!(
        (seen.one("user-agent"), seen.one("if-none-match"), seen.one("range")),
        ("tool/1", "\"x\"", "bytes=0-1")
    );
    ledger.check();
}

#[test]
fn connection_takes_lines_off_before_ours_are_put_on() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let ours = "Connection: authorization, date, host, accept, x-jms-org, content-length, x-forwarded-proto, signature\r\n";
    let body = "Content-Length: 2\r\n";
    let seen =
        forwarded(&mut ledger, "ours listed", &(request("POST", "/api/", &format!("{ours}{body}")) + "hi"));
    assert_eq!((seen.one("content-length"), seen.body.as_slice()), ("2", b"hi".as_slice()));
    assert_eq!(seen.one("x-jms-org"), ORG);
    for (name, line) in [
        ("one", "Connection: x-tz\r\n"),
        ("among others", "Connection: keep-alive,X-TZ , foo\r\n"),
        ("of two lines", "Connection: keep-alive\r\nConnection: x-tz\r\n"),
        ("empty members", "Connection: , ,x-tz,,\r\n"),
        ("after the line", "X-Other: 1\r\nConnection: x-tz\r\n"),
    ] {
        let lines = format!("X-TZ: {PLANTED}\r\n{line}");
        let seen = forwarded(&mut ledger, name, &request("GET", "/api/", &lines));
        assert!(!seen.raw_head.contains(PLANTED), "{name}: {}", seen.raw_head);
        assert!(seen.all("connection").is_empty(), "{name}: {}", seen.raw_head);
    }
    ledger.check();
}

#[test]
fn several_accept_lines_become_one() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (name, lines, wanted) in [
        ("none", "", "application/json"),
        ("empty", "Accept:\r\n", "application/json"),
        ("one", "Accept: text/csv, */*;q=0.1\r\n", "text/csv, */*;q=0.1"),
        ("two", "Accept: text/csv\r\naccept: */*\r\n", "text/csv,*/*"),
        ("an empty one among three", "Accept: a/b\r\nAccept:\r\nAccept: c/d\r\n", "a/b,c/d"),
    ] {
        let seen = forwarded(&mut ledger, name, &request("GET", "/api/", lines));
        assert_eq!(seen.one("accept"), wanted, "{name}");
    }
    ledger.denied("non-ASCII", request("GET", "/api/", "Accept: a/\u{e9}\r\n"), 400, "malformed");
    ledger.denied(
        "non-ASCII second",
        request("GET", "/api/", "Accept: */*\r\nAccept: \u{e9}\r\n"),
        400,
        "malformed",
    );
    ledger.check();
}

#[test]
fn an_organisation_is_one_that_is_granted_or_the_call_is_refused() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let org = |value: &str| format!("X-JMS-ORG: {value}\r\n");
    for (name, lines, wanted) in [
        ("unnamed", String::new(), ORG),
        ("empty", org(""), ORG),
        ("by its word", org("Default"), ORG),
        ("the default", org(ORG), ORG),
        ("another granted one", org(OTHER_ORG), OTHER_ORG),
        ("twin dropped", format!("X_JMS_ORG: {OTHER_ORG}\r\n"), ORG),
        ("cookie dropped", format!("Cookie: X-JMS-ORG={OTHER_ORG}\r\n"), ORG),
        ("empty beside one", format!("{}{}", org(""), org(OTHER_ORG)), OTHER_ORG),
    ] {
        let seen = forwarded(&mut ledger, name, &request("GET", "/api/", &lines));
        assert_eq!(seen.one("x-jms-org"), wanted, "{name}");
        assert!(
            seen.all("x_jms_org").is_empty() && seen.all("cookie").is_empty(),
            "{name}: {}",
            seen.raw_head
        );
    }
    let foreign = "22222222-2222-2222-2222-222222222222";
    for (name, target, lines) in [
        ("not granted", "/api/", org(foreign)),
        ("twice the same", "/api/", format!("{}{}", org(ORG), org(ORG))),
        ("two granted", "/api/", format!("{}{}", org(ORG), org(OTHER_ORG))),
        ("a list", "/api/", org(&format!("{ORG}, {OTHER_ORG}"))),
        ("non-ASCII", "/api/", org("\u{e9}")),
        ("root by name", "/api/", org("ROOT")),
        ("query", "/api/?oid=22222222-2222-2222-2222-222222222222", String::new()),
        ("query, granted, beside another", "/api/?a=1&oid=11111111-1111-1111-1111-111111111111", org(ORG)),
        ("query, in another spelling", "/api/?OID=11111111-1111-1111-1111-111111111111", String::new()),
        ("query, encoded name", "/api/?%6fid=x", String::new()),
        ("query, no value", "/api/?oid", org(ORG)),
    ] {
        ledger.denied(name, request("GET", target, &lines), 403, "org_override");
    }
    ledger.check();
}
