"""Every forwarded target verifies at the upstream; the gateway refuses a target with more than one reading. There is no third case."""
import http.client
import random

import pytest

import wire
from canonical import Refused, Unsaid, canonical
from world import TOKENS

BEARER = f"Authorization: Bearer {TOKENS['onboarding']}".encode()
REFUSED = None
ROUNDS, ROUND_SIZE = 10, 30

# The target as received, and as signed and sent.
WIRE_TABLE = [
    ("/u/a%2Bb/", "/u/a+b/"),
    ("/u/%e4%b8%ad/", "/u/%E4%B8%AD/"),
    ("/u/a%2Fb/", REFUSED),
    ("/u/a%2fb/", REFUSED),
    ("/u/a%7Eb/", "/u/a~b/"),
    ("/u/a%40b.com/", "/u/a@b.com/"),
    ("/u/a%3Ab/", "/u/a:b/"),
    ("/u/%61/", "/u/a/"),
    ("/u/;v=1/", "/u/%3Bv%3D1/"),
    ("/u/[0]/", "/u/%5B0%5D/"),
    ("/u/%255B/", "/u/%255B/"),
    ("/u/?search=a|b", "/u/?search=a%7Cb"),
    ("/u/?search={x}", "/u/?search=%7Bx%7D"),
    ('/u/?search="x"', "/u/?search=%22x%22"),
    ("/u/?search=^x`", "/u/?search=%5Ex%60"),
    ("/u/?search=<x>", "/u/?search=%3Cx%3E"),
    ("/u/?", "/u/"),
    ("/u/?a=1&a=2", "/u/?a=1&a=2"),
    ("/u/?a=%2B", "/u/?a=%2B"),
    ("/u/?a=b+c", "/u/?a=b+c"),
    ("/u/?a[]=1", "/u/?a[]=1"),
    ("/u/?a='b'", "/u/?a='b'"),
    ("/u/?a=b%20c", "/u/?a=b%20c"),
    ("/u/?a=b%0Ac", "/u/?a=b%0Ac"),
    ("/u/?a=%e4%b8%ad", "/u/?a=%e4%b8%ad"),
    ("/u/a%20b/", "/u/a%20b/"),
    ("/u/a@b/", "/u/a@b/"),
    ("/u/%E4%B8%AD/", "/u/%E4%B8%AD/"),
    ("/u/no-slash", "/u/no-slash/"),
    ("/u/no-slash?a=1", "/u/no-slash/?a=1"),
    ("/u/../u/", REFUSED),
    ("/u/./", REFUSED),
    ("/u/%2e%2E/", REFUSED),
    ("/u/.%2e", REFUSED),
    ("/u//x/", REFUSED),
    ("//u/x/", REFUSED),
    ("/u/a\\b/", REFUSED),
    ("/u/%00/", REFUSED),
    ("/u/%0d%0a/", REFUSED),
    ("/u/%7f/", REFUSED),
    ("/u/%ff/", REFUSED),
    ("/u/%c0%af/", REFUSED),
    ("/u/%zz/", REFUSED),
    ("/u/100%/", REFUSED),
    ("/u/x#y/", REFUSED),
    ("/u/?a=x#y", REFUSED),
]

PATH_PIECES = [
    "users", "a-b_c.d", "x~y", "*", "(1)", "!", "$9", "a,b", "'q'", ":", "@", "a@b.com", "+", "&", "%20", "%7E", "%7e", "%2B", "%2b", "%40", "%3a",
    "%25", "%2525", "%252e", "%252F", ";v=1", "%3b", "=", "[0]", "%5b", "{id}", "|", '"', "^", "`", "<x>", "%3C", "%23", "%3F", "...", "..x", "%2ex",
    "%E5%BC%A0%E4%B8%89", "%e5%bc%a0", "%c3%A9", "%F0%9F%94%91", "%CF%80", "%61%62", "%41",
]
PATH_POISONS = [
    "/./", "/../", "/%2e/", "/%2E%2e/", "/.%2E/", "//", "%2F", "%2f", "\\", "%00", "%0a", "%0D", "%1f", "%7F", "%ff", "%e5%bc", "%C0%AE", "%ED%A0%80",
    "%", "%4", "%G1", "%x", "%%41", "#", "#frag", b"\xe5\xbc\xa0", b"\xff", b"\x80", b"\xc3\xa9",
]
QUERY_PIECES = [
    "limit=5", "offset=0", "search=", "&", "&&", "=", "a", "a=1&a=2", "ids[]=3", "+", "%20", "%2B", "%2b", "%7E", "~", "%26", "%3D", "%23", "%2F", "/", "?",
    ";", ":", "@", "!", "$", "'", "(", ")", "*", ",", "[", "]", "{", "}", "|", '"', "^", "`", "<", ">", "..", "/../", "//", "%2e%2e%2f", "%25", "%0A", "%00",
    "%E5%BC%A0", "%e4%b8%89", "%F0%9F%94%91",
]
QUERY_POISONS = ["#", "#x", b"\xe5\xbc\xa0", b"\xff", b"\x80\x81"]

UNSAID = [
    b"?a=%zz", b"?a=100%", b"?a=%", b"?a=%ff", b"?a=%e5%bc", b"?a=\\", b"?a=\x01", b"?a=\x7f", b"x%5Cy/", b"..;/x/", b"%2e%2e;v=1/", b"%C2%85/", b"%E2%80%A8/",
]


def generated(seed, count):
    """`count` targets below the echo, the same for each seed; about a third have an error in one place."""
    draw = random.Random(seed)
    for _ in range(count):
        segments = ["".join(draw.choices(PATH_PIECES, k=draw.randint(1, 3))) for _ in range(draw.randint(1, 3))]
        query = draw.choices(QUERY_PIECES, k=draw.randint(0, 6))
        if draw.random() < 0.3:
            segments.insert(draw.randrange(len(segments) + 1), draw.choice(PATH_POISONS))
        if draw.random() < 0.1:
            query.insert(draw.randrange(len(query) + 1), draw.choice(QUERY_POISONS))
        path = b"/".join(raw(segment) for segment in segments) + draw.choice([b"", b"/"])
        yield b"/api/v1/echo/" + path + (b"?" + b"".join(map(raw, query)) if query or draw.random() < 0.1 else b"")


def raw(piece):
    return piece if isinstance(piece, bytes) else piece.encode()


def outcome(gateway, upstream, target):
    """The result of a target: (its form at the upstream or None, the fault of the exchange or None)."""
    before = len(upstream.seen())
    try:
        answer = wire.send(gateway.port, "GET", target, [BEARER, b"Accept: application/json"])
    except (OSError, http.client.HTTPException) as gone:
        return None, f"no answer: {gone!r}"
    arrived = upstream.seen()[before:]
    if answer.status == 400 and answer.headers["Claviger-Error"]:
        body = answer.json()
        ours = (body.get("by"), body.get("code")) == ("claviger", answer.headers["Claviger-Error"])
        return None, "refused, but it reached the upstream" if arrived else None if ours else f"not our 400: {answer}"
    if [seen["verified"] for seen in arrived] != [True]:
        return None, f"answered {answer}; the upstream's verdict: {[(seen['target'], seen['verified']) for seen in arrived]}"
    if answer.status != 200:
        return None, f"verified, but answered {answer}"
    return arrived[0]["target"], None


@pytest.mark.parametrize(("target", "expected"), WIRE_TABLE)
def test_what_was_judged_is_what_is_signed_sent_and_recorded(gateway, upstream, target, expected):
    answer = wire.send(gateway.port, "GET", target.encode(), [BEARER])
    if expected is REFUSED:
        assert (answer.status, upstream.seen()) == (400, []), answer
        return
    assert answer.status == 200, answer
    seen = upstream.only()
    assert (seen["target"], seen["full_path"], seen["verified"]) == (expected, expected, True)
    recorded = [event["target"] for event in gateway.trail.of(answer.headers["X-Request-Id"], ("intent", "outcome"))]
    assert recorded == [expected, expected]


@pytest.mark.parametrize(("target", "expected"), WIRE_TABLE)
def test_the_table_and_the_rules_in_python_agree(target, expected):
    try:
        assert canonical(target.encode()) == expected
    except Refused as why:
        assert expected is REFUSED, f"the rules refuse {target!r}: {why}"


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_generated_target_is_refused_exactly_where_the_rules_say_so(gateway, upstream, seed):
    wrong = []
    for target in generated(seed, ROUND_SIZE):
        try:
            expected, why = canonical(target), None
        except Refused as refused:
            expected, why = None, refused
        arrived, fault = outcome(gateway, upstream, target)
        if fault or arrived != expected:
            wrong.append(f"{target!r}\n    expected {expected or f'400, {why}'}\n    but {fault or arrived or '400'}")
    if wrong:
        pytest.fail(f"{len(wrong)} of {ROUND_SIZE} targets:\n" + "\n".join(wrong), pytrace=False)


def test_the_generator_covers_both_sides():
    targets = [target for seed in range(ROUNDS) for target in generated(seed, ROUND_SIZE)]
    reasons = {}
    for target in targets:
        try:
            reasons.setdefault("sent", []).append(canonical(target))
        except Refused as why:
            reasons.setdefault(str(why), []).append(target)
    assert len(targets) == 300
    assert set(reasons) == {
        "sent", "raw #", "raw non-ASCII", "bad hex", "%2F", "backslash", "control in the path", "invalid UTF-8", "dot segment", "empty segment"}
    assert 150 < len(reasons["sent"]) < 250


@pytest.mark.parametrize("rest", UNSAID)
def test_where_the_rules_are_silent_it_is_refused_or_verified(gateway, upstream, rest):
    target = b"/api/v1/echo/" + rest
    with pytest.raises(Unsaid):
        canonical(target)
    _, fault = outcome(gateway, upstream, target)
    assert fault is None


def test_a_target_behind_a_prefix_has_the_same_form(gateway, upstream):
    answer = wire.send(gateway.port, "GET", b"/jumpserver/u/a%2Bb;%e4%b8%ad?x=|", [BEARER])
    assert answer.status == 200, answer
    assert (upstream.only()["target"], upstream.only()["verified"]) == ("/u/a+b%3B%E4%B8%AD/?x=%7C", True)


@pytest.mark.parametrize("spelt", [b"/%6Aumpserver/u/x/", b"/jumpserver%2Fu/x/", b"/jumpserver/../u/x/", b"/jumpserverx/u/x/"])
def test_a_prefix_is_whole_segments_of_the_canonical_path(gateway, upstream, spelt):
    answer = wire.send(gateway.port, "GET", spelt, [BEARER])
    if b"%2F" in spelt or b".." in spelt:
        assert (answer.status, upstream.seen()) == (400, []), answer
    elif spelt.startswith(b"/%6A"):
        assert (answer.status, upstream.only()["target"]) == (200, "/u/x/"), answer
    else:
        assert (answer.status, upstream.only()["target"]) == (404, "/jumpserverx/u/x/"), answer
