"""Plain `requests` scripts with a bearer token: their calls to the bastion work through the gateway."""
import json
import subprocess

import pytest

from world import DEFAULT, PRIVATE_TOKEN, TOKENS, explain, session_for

USERS, GROUPS = "/api/v1/users/users/", "/api/v1/users/groups/"
GOOD = TOKENS["onboarding"]
NAMES = ["张三", "a+b", "a&b=c", "a@b.com", "a|b", "o'brien; x", "100%", "naïve [1] {2}", "ünï/slash?"]


def usernames(script, gateway):
    return sorted(user["username"] for user in script.get(gateway.url + USERS).json())


def test_groups_are_listed_with_their_chinese_names(gateway, script):
    answer = script.get(gateway.url + GROUPS)
    assert answer.status_code == 200, explain(answer)
    assert {group["name"] for group in answer.json()} == {"ops", "审计"}


@pytest.mark.parametrize("name", NAMES)
def test_a_user_is_made_found_by_name_and_deleted_by_name(gateway, script, upstream, name):
    upstream.reset(users=2)
    made = script.post(gateway.url + USERS, json={"username": name, "name": name})
    assert made.status_code == 201, explain(made)
    assert made.json()["org_id"] == DEFAULT

    found = script.get(gateway.url + USERS, params={"username": name})
    assert [user["username"] for user in found.json()] == [name], explain(found)

    gone = script.delete(gateway.url + USERS, params={"username": name})
    assert (gone.status_code, gone.content) == (204, b""), explain(gone)
    assert usernames(script, gateway) == ["user000", "user001"], "only the one named is gone"


@pytest.mark.parametrize("query", ["username=张三", "username=%E5%BC%A0%E4%B8%89", "username=%e5%bc%a0%e4%b8%89"])
def test_a_query_spelt_by_hand_finds_the_same_user(gateway, script, query):
    assert script.post(gateway.url + USERS, json={"username": "张三"}).status_code == 201
    found = script.get(f"{gateway.url}{USERS}?{query}")
    assert [user["username"] for user in found.json()] == ["张三"], explain(found)


def test_a_body_from_a_generator_makes_a_user(gateway, script, upstream):
    """`requests` sends it chunked, which the upstream would read as empty."""
    pieces = (piece for piece in (b'{"user', b'name": "from-a-generator",', b' "name": "x"}'))
    made = script.post(gateway.url + USERS, data=pieces, headers={"Content-Type": "application/json"})
    assert made.status_code == 201, explain(made)
    names = [name for name, _ in upstream.only()["headers"]]
    assert "transfer-encoding" not in names and names.count("content-length") == 1
    assert usernames(script, gateway) == ["from-a-generator"]


@pytest.mark.parametrize("prefix", ["", "/jumpserver"])
def test_next_is_followed_to_the_end_without_leaving_the_gateway(gateway, script, upstream, prefix):
    upstream.reset(users=250)
    here = f"{gateway.url}{prefix}{USERS}"
    url, names, pages = f"{here}?limit=50", [], 0
    while url:
        page = script.get(url)
        assert page.status_code == 200, explain(page)
        told = page.json()
        assert told["count"] == 250
        for link in (told["next"], told["previous"]):
            assert link is None or link.startswith(here + "?"), f"leaves the gateway: {link}"
        assert upstream.authority not in page.text
        assert (told["previous"] is None) == (pages == 0)
        names += [user["username"] for user in told["results"]]
        url, pages = told["next"], pages + 1
    assert (pages, names) == (5, [f"user{n:03}" for n in range(250)])


def test_a_thousand_users_are_read_and_no_byte_names_the_upstream(gateway, script, upstream):
    upstream.reset(users=1_003)
    url, names, received = f"{gateway.url}/jumpserver{USERS}?limit=100", [], b""
    while url:
        page = script.get(url)
        assert page.status_code == 200, explain(page)
        received += str(page.headers).encode() + page.content
        names += [user["username"] for user in page.json()["results"]]
        url = page.json()["next"]
    assert (len(set(names)), len(upstream.seen())) == (1_003, 11)
    assert {(seen["status"], seen["verified"]) for seen in upstream.seen()} == {(200, True)}
    for named in (upstream.authority, f":{upstream.port}"):
        assert named.encode() not in received
    assert received.count(f"{gateway.url}/jumpserver{USERS}?".encode()) == 20, "ten times next, ten times previous"


def test_links_keep_the_query_that_was_asked(gateway, script, upstream):
    upstream.reset(users=3)
    assert script.post(gateway.url + USERS, json={"username": "x", "name": "张 三"}).status_code == 201
    page = script.get(f"{gateway.url}{USERS}", params={"limit": 1, "name": "User 1", "search": "张"}).json()
    assert page["count"] == 1
    page = script.get(f"{gateway.url}{USERS}", params={"limit": 1, "search": "张"}).json()
    assert page["next"].startswith(f"{gateway.url}{USERS}?") and "search=%E5%BC%A0" in page["next"]
    assert script.get(page["next"]).json()["previous"].startswith(f"{gateway.url}{USERS}?")


@pytest.mark.parametrize("prefix", ["", "/jumpserver"])
def test_a_redirect_names_the_gateway(gateway, script, prefix):
    answer = script.get(f"{gateway.url}{prefix}/api/v1/redirect/", allow_redirects=False)
    assert answer.status_code == 302, explain(answer)
    assert answer.headers["Location"] in (f"{gateway.url}{prefix}{USERS}", f"{prefix}{USERS}")
    assert script.get(f"{gateway.url}{prefix}/api/v1/redirect/").json() == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
def test_a_missing_slash_is_added_and_never_a_redirect(gateway, script, upstream, method):
    made = script.post(gateway.url + USERS, json={"username": "before"}).json()
    upstream_seen = len(upstream.seen())
    url, status = {
        "POST": (USERS, 201), "GET": (USERS, 200), "DELETE": (USERS + made["id"] + "/", 204),
        "PUT": (USERS + made["id"] + "/", 200), "PATCH": (USERS + made["id"] + "/", 200),
    }[method]
    body = {} if method in ("GET", "DELETE") else {"json": {"username": "after"}}
    answer = script.request(method, gateway.url + url.rstrip("/"), allow_redirects=False, **body)
    assert answer.status_code == status, explain(answer)
    arrived = upstream.seen()[upstream_seen:]
    assert [(seen["method"], seen["target"], seen["verified"]) for seen in arrived] == [(method, url, True)]
    if body:
        assert "after" in usernames(script, gateway), "the body came along"


def test_an_answer_of_the_upstream_passes_untouched(gateway, script, upstream):
    missing = script.get(gateway.url + USERS + "00000000-0000-0000-0000-00000000dead/")
    assert (missing.status_code, list(missing.json())) == (404, ["detail"])
    assert "Claviger-Error" not in missing.headers
    unparsable = script.post(gateway.url + USERS, data=b"{", headers={"Content-Type": "application/json"})
    assert (unparsable.status_code, "Claviger-Error" in unparsable.headers) == (400, False)
    page = script.get(gateway.url + "/no/such/page/")
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (404, "text/html")


def test_what_no_role_allows_is_403_and_does_not_leave(gateway, upstream):
    with session_for("reader") as reader:
        assert reader.get(gateway.url + USERS).status_code == 200
        upstream.reset(users=1)
        for method, path in [("POST", USERS), ("DELETE", USERS + "?username=user000"), ("GET", "/api/v1/orgs/orgs/current/")]:
            answer = reader.request(method, gateway.url + path, json={"username": "x"})
            assert (answer.status_code, answer.json()["by"]) == (403, "claviger"), explain(answer)
    with session_for("stranger") as stranger:
        answer = stranger.get(gateway.url + USERS)
        assert (answer.status_code, answer.json()["by"]) == (403, "claviger"), explain(answer)
    assert upstream.seen() == []


def test_a_credential_that_the_upstream_refuses_is_not_the_scripts_fault(gateway, script, upstream):
    answer = script.get(f"{gateway.url}/rotten{USERS}")
    assert (answer.status_code, answer.headers.get("Claviger-Error")) == (502, "upstream_auth"), explain(answer)
    assert "WWW-Authenticate" not in answer.headers
    assert upstream.only()["verified"] is False


def test_a_private_token_is_put_on_where_the_upstream_takes_one(gateway, script, upstream):
    upstream.reset(users=3)
    page = script.get(f"{gateway.url}/by-token{USERS}?limit=2")
    assert page.json()["next"] == f"{gateway.url}/by-token{USERS}?limit=2&offset=2", explain(page)
    seen = upstream.only()
    assert (dict(seen["headers"])["authorization"], seen["verified"], seen["org"]) == (f"Token {PRIVATE_TOKEN}", True, DEFAULT)


@pytest.mark.parametrize("shown", [["-H", f"Authorization: Bearer {GOOD}"], ["-H", f"Authorization: Token {GOOD}"], ["-u", f"anyone:{GOOD}"]])
def test_curl_shows_a_token_in_its_own_ways(gateway, upstream, shown):
    def curl(*words):
        done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-w", "\n%{http_code}", *shown, *words], capture_output=True, text=True, timeout=30)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text

    assert curl(gateway.url + USERS, "--json", '{"username": "张三"}')[0] == 201
    status, text = curl("-G", gateway.url + USERS, "--data-urlencode", "username=张三", "-d", "limit=1")
    assert (status, json.loads(text)["count"]) == (200, 1), text
    assert curl("-X", "DELETE", f"{gateway.url}{USERS}?username=%E5%BC%A0%E4%B8%89")[0] == 204
    assert [seen["verified"] for seen in upstream.seen()] == [True] * 3 and GOOD not in str(upstream.seen())
