//! Targets: those without a canonical form, and the canonical form of all others.

use crate::support::ledger::{ANSWERED, Ledger, request};
use crate::support::upstream::Upstream;
use crate::support::world::{TOKEN, World};

#[test]
fn a_target_without_a_canonical_form_is_refused() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let cases = [
        ("dot segment", "/api/./users/"),
        ("dot-dot segment", "/api/../admin/"),
        ("dot-dot at the end", "/api/.."),
        ("encoded dots", "/api/%2e%2E/admin/"),
        ("half encoded dots", "/api/.%2e/admin/"),
        ("dots with a parameter", "/api/..;x=1/admin/"),
        ("empty segment", "/api//users/"),
        ("empty segment at the end", "/api/users//"),
        ("network path", "//evil.test/api/"),
        ("three slashes", "///api/"),
        ("encoded slash", "/api%2fusers/"),
        ("encoded slash, upper case", "/api/%2F/"),
        ("backslash", "/api\\users/"),
        ("encoded backslash", "/api/%5c../"),
        ("encoded NUL", "/api/%00/"),
        ("encoded CRLF", "/api/%0d%0aX:%20y/"),
        ("encoded DEL", "/api/%7f/"),
        ("not UTF-8", "/api/%ff/"),
        ("overlong", "/api/%c0%ae%c0%ae/"),
        ("surrogate", "/api/%ed%a0%80/"),
        ("bad hex", "/api/%zz/"),
        ("cut hex", "/api/%4"),
        ("bare percent", "/api/%"),
        ("bad hex in the query", "/api/?q=%g1"),
        ("fragment", "/api/#x"),
        ("fragment after the query", "/api/?q=1#x"),
        ("backslash in the query", "/api/?q=\\"),
        ("absolute-form", "http://gw.test/api/"),
        ("absolute-form, elsewhere", "https://evil.test/api/"),
        ("authority-form", "gw.test:80"),
        ("userinfo", "@evil.test/api/"),
        ("no slash", "api/users/"),
        ("query alone", "?oid=1"),
        ("asterisk", "*"),
    ];
    for (name, target) in cases {
        ledger.denied(name, request("GET", target, ""), 400, "non_canonical");
    }
    for (outcome, (name, target)) in ledger.check().iter().zip(cases) {
        let shown = outcome["target"].as_str().unwrap();
        let wanted = target.replace('\\', "\\x5c");
        assert_eq!(shown, wanted, "{name}");
        assert!(outcome["reason"].is_string(), "{name}: {outcome}");
    }
}

/// These are no targets at all, so the end of the request is in doubt: the connection closes.
#[test]
fn raw_bytes_that_no_request_line_may_carry_are_refused() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    let line = |target: &[u8]| {
        let rest = format!(" HTTP/1.1\r\nHost: gw.test\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        [b"GET ", target, rest.as_bytes()].concat()
    };
    for (name, target) in [
        ("space", b"/api/ /".as_slice()),
        ("space at the end", b"/api/ "),
        ("space before", b" /api/"),
        ("empty", b""),
        ("tab", b"/api/\t"),
        ("NUL", b"/api/\0"),
        ("escape", b"/api/\x1b[2J"),
        ("DEL", b"/api/\x7f"),
        ("bare CR", b"/api/\rX"),
        ("bare LF", b"/api/\nX"),
        ("another request line", b"/api/ HTTP/1.1\nX"),
    ] {
        ledger.closing(name, line(target), 400, crate::support::ledger::denied("malformed"));
    }
    let answer = ledger.world.exchange(line("/api/\u{e9}/".as_bytes()));
    assert_eq!(answer.status, 400, "{answer:?}");
    let code = if answer.code() == "malformed" { "malformed" } else { "non_canonical" };
    ledger.note("non-ASCII", &answer, 400, crate::support::ledger::denied(code));
    for outcome in ledger.check() {
        let text = outcome.to_string();
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
    }
}

#[test]
fn every_other_spelling_is_brought_into_one_form() {
    let mut ledger = Ledger::new(World::new(Upstream::ok()));
    for (wire, sent) in [
        ("/", "/"),
        ("/api", "/api/"),
        ("/api?", "/api/"),
        ("/api/?", "/api/"),
        ("/api/??", "/api/??"),
        ("/api/a;b=c/", "/api/a%3Bb%3Dc/"),
        ("/api/a%40b.test/", "/api/a@b.test/"),
        ("/api/%e4%b8%ad/", "/api/%E4%B8%AD/"),
        ("/api/%2525/", "/api/%2525/"),
        ("/api/%25/", "/api/%25/"),
        ("/api/%61/", "/api/a/"),
        ("/api/{a}|b/", "/api/%7Ba%7D%7Cb/"),
        ("/api/\"a\"/<b>^`/", "/api/%22a%22/%3Cb%3E%5E%60/"),
        ("/api/...", "/api/.../"),
        ("/api/?q={a}|\"b\"^<c>`", "/api/?q=%7Ba%7D%7C%22b%22%5E%3Cc%3E%60"),
        ("/api/?q=%0A%0d", "/api/?q=%0A%0d"),
        ("/api/?q=../..//x", "/api/?q=../..//x"),
        ("/api/?q=%2f&r=%5C", "/api/?q=%2f&r=%5C"),
        ("/api?a=1&a=2&&b", "/api/?a=1&a=2&&b"),
        ("/api/?u=http://x/?y@z", "/api/?u=http://x/?y@z"),
    ] {
        let before = ledger.world.upstream.seen().len();
        let answer = ledger.world.exchange(request("GET", wire, ""));
        ledger.note(wire, &answer, 200, ANSWERED);
        let seen = ledger.world.upstream.seen();
        assert_eq!(seen.len(), before + 1, "{wire}");
        assert_eq!((seen[before].target.as_str(), &seen[before].unsigned), (sent, &None), "{wire}");
    }
    ledger.check();
}
