"""Rules on a JSON body: Python's `json` and the ops backend understand every allowed body in the same way."""
import json

import pytest

from ops import USERS, Ops
from world import Gateway, explain, session_for

CONFIG = """
[upstreams.ops]
profile = "plain"
endpoint = "http://{authority}"
credential = "ops"
scheme.header = {{ name = "x-auth-token" }}
[credentials.ops]
value = {{ file = "ops.secret" }}
[[routes]]
prefix = "/"
upstream = "ops"
[roles.lists]
allow = [
  {{ methods = ["GET"], paths = ["/api/**"] }},
  {{ methods = ["POST"], paths = ["/api/user"], body = {{ action = "list" }} }},
  {{ methods = ["POST"], paths = ["/api/user"], body = {{ action = "update", dry_run = "true", version = "2" }} }},
]
[roles.all-but-delete]
allow = [{{ paths = ["/**"] }}]
deny = [{{ methods = ["POST"], paths = ["/api/user"], body = {{ action = "delete" }} }}]
[[grants]]
consumer = "reader"
upstream = "ops"
roles = ["lists"]
[[grants]]
consumer = "onboarding"
upstream = "ops"
roles = ["all-but-delete"]
[[grants]]
consumer = "stranger"
upstream = "ops"
roles = ["ops:users-admin"]
"""
TOKEN = "fake-ops-token"
JSON = "application/json"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with Ops() as upstream:
        gateway = Gateway(tmp_path_factory.mktemp("bodies"))
        gateway.write("ops.secret", TOKEN)
        gateway.configure(CONFIG.format(authority=upstream.authority))
        yield upstream, gateway.start()
        assert gateway.stop() == 0


@pytest.fixture
def upstream(running):
    running[0].reset(TOKEN)
    return running[0]


@pytest.fixture
def gateway(running, upstream):
    return running[1]


def post(gateway, consumer, body, kind=JSON, chunked=False):
    with session_for(consumer) as script:
        data = iter([body[:5], body[5:]]) if chunked else body
        return script.post(gateway.url + USERS, data=data, headers={"Content-Type": kind} if kind else {})


LIST, DELETE = b'{"action": "list", "data": {}}', b'{"action": "delete", "data": {"id": 3}}'
AT_MOST = 64 * 1024


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"'])
@pytest.mark.parametrize("body", [
    LIST,
    b' \r\n\t{ "data" : [1, {"action": "delete"}], "action" :"list" }\n',
    rb'{"action": "\u006cist"}',
    rb'{"\u0061ction": "list"}',
    b'{"action": "list", "pad": "' + b"x" * (AT_MOST - 100) + b'"}',
])
def test_a_body_that_is_named_is_let_through_as_it_was(gateway, upstream, body, kind, chunked):
    answer = post(gateway, "reader", body, kind, chunked)
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "info": {"total": 25}}), explain(answer)
    arrived, = upstream.seen
    assert (arrived.body, arrived.all("Content-Length"), arrived.all("Content-Type")) == (body, [str(len(body))], [JSON])


UNREADABLE = {
    "twice": (b'{"action": "list", "action": "delete"}', JSON),
    "twice, the same": (b'{"action": "list", "action": "list"}', JSON),
    "twice, once escaped": (rb'{"action": "list", "\u0061ction": "delete"}', JSON),
    "nothing": (b"", JSON),
    "no JSON": (b"action=list", JSON),
    "a form": (b"action=list", "application/x-www-form-urlencoded"),
    "JSON that is called text": (LIST, "text/plain"),
    "JSON that Tornado takes for a form": (LIST, "application/x-www-form-urlencoded+json"),
    "JSON of a product's own": (LIST, "application/vnd.ops+json"),
    "a name that may be trimmed": (b'{"action": "list", " action": "delete"}', JSON),
    "a name with a NUL": (rb'{"action": "list", "action\u0000": "delete"}', JSON),
    "JSON that is called nothing": (LIST, None),
    "more after it": (LIST + DELETE, JSON),
    "cut off": (LIST[:-1], JSON),
    "a comment": (b'{"action": "list" /* */}', JSON),
    "a trailing comma": (b'{"action": "list",}', JSON),
    "single quotes": (b"{'action': 'list'}", JSON),
    "UTF-16": (json.dumps({"action": "list"}).encode("utf-16"), JSON),
    "UTF-8 with a mark before it": (b"\xef\xbb\xbf" + LIST, JSON),
    "broken UTF-8": (b'{"action": "list", "x": "\xff"}', JSON),
    "a raw line feed in a string": (b'{"action": "list", "x": "\n"}', JSON),
    "too long to be judged": (b'{"action": "list", "pad": "' + b"x" * AT_MOST + b'"}', JSON),
}
OTHERS = {
    "another action": b'{"action": "add", "data": {}}',
    "in capitals": b'{"action": "LIST"}',
    "another name": b'{"Action": "list"}',
    "one level down": b'{"data": {"action": "list"}}',
    "a list": b'{"action": ["list"]}',
    "an object": b'{"action": {"list": 1}}',
    "null": b'{"action": null}',
    "in an array": b'[{"action": "list"}]',
    "empty": b'{"action": ""}',
    "with a space": b'{"action": "list "}',
    "with a NUL": rb'{"action": "list\u0000"}',
    "a value short": b'{"action": "update", "dry_run": true}',
    "another boolean": b'{"action": "update", "dry_run": false, "version": 2}',
    "another number": b'{"action": "update", "dry_run": true, "version": 2.0}',
}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("how", UNREADABLE)
def test_a_body_that_could_be_read_in_two_ways_is_neither_allowed_nor_kept_from_a_deny(gateway, upstream, how, chunked):
    body, kind = UNREADABLE[how]
    for consumer, code in [("reader", "denied"), ("onboarding", "denied_by_rule")]:
        if how in ("nothing", "twice, the same") and consumer == "onboarding":
            continue  # No value of it is denied.
        answer = post(gateway, consumer, body, kind, chunked)
        assert (answer.status_code, answer.headers.get("Claviger-Error"), upstream.seen) == (403, code, []), explain(answer)


@pytest.mark.parametrize("query", ["action=delete", "Action[]=delete", "x=1;action=delete", "%20action=list"])
def test_an_action_in_the_query_beside_that_of_the_body_is_refused(gateway, upstream, query):
    for consumer, code in [("reader", "denied"), ("onboarding", "denied_by_rule")]:
        with session_for(consumer) as script:
            answer = script.post(f"{gateway.url}{USERS}?{query}", data=LIST, headers={"Content-Type": JSON})
        assert (answer.status_code, answer.headers.get("Claviger-Error"), upstream.seen) == (403, code, []), explain(answer)


@pytest.mark.parametrize("body,status", [(b"{}", 200), (b"", 200), (DELETE, 403), (b'{"x": 1}', 403), (b"action=delete", 403)])
def test_a_read_has_no_body_where_bodies_are_judged(gateway, upstream, body, status):
    for consumer in ("reader", "onboarding"):
        with session_for(consumer) as script:
            answer = script.get(gateway.url + USERS, data=body, headers={"Content-Type": JSON})
        assert (answer.status_code, len(upstream.seen)) == (status, 1 if status == 200 else 0), explain(answer)
        upstream.seen.clear()


@pytest.mark.parametrize("how", OTHERS)
def test_another_body_is_not_what_was_allowed(gateway, upstream, how):
    answer = post(gateway, "reader", OTHERS[how])
    assert (answer.status_code, answer.headers.get("Claviger-Error"), upstream.seen) == (403, "denied", []), explain(answer)


@pytest.mark.parametrize("body", [b'{"action": "update", "dry_run": true, "version": 2, "data": {"id": 1}}',
                                  b'{"action": "update", "dry_run": "true", "version": "2", "data": {"id": 1}}'])
def test_numbers_and_booleans_are_compared_as_they_are_written(gateway, upstream, body):
    answer = post(gateway, "reader", body)
    assert (answer.status_code, answer.json()["ok"]) == (200, True), explain(answer)


@pytest.mark.parametrize("body", [DELETE, rb'{"action": "\u0064elete", "data": {"id": 3}}', b'{"action": "delete", "action": "list"}'])
def test_what_is_denied_by_its_body_does_not_get_there(gateway, upstream, body):
    answer = post(gateway, "onboarding", body)
    assert (answer.status_code, answer.headers.get("Claviger-Error"), upstream.seen) == (403, "denied_by_rule", []), explain(answer)
    assert len(upstream.users) == 25


def test_what_the_deny_does_not_name_gets_there(gateway, upstream):
    assert post(gateway, "onboarding", b'{"action": "add", "data": {"id": 99}}').json()["ok"]
    with session_for("onboarding") as script:
        assert script.get(gateway.url + USERS).json()["info"]["total"] == 26
    with session_for("reader") as script:
        assert script.get(gateway.url + USERS, params={"start": 25}).json()["info"]["items"] == [{"id": 99}]


def test_the_role_that_ships_adds_and_changes_and_never_deletes(gateway, upstream):
    for body, status in [(LIST, 200), (b'{"action": "add", "data": {"id": 25}}', 200), (b'{"action": "update", "data": {"id": 3, "name": "x"}}', 200),
                         (DELETE, 403), (b'{"action": "drop"}', 403), (b"{}", 403), (b'{"action": "set_password", "data": {}}', 403)]:
        answer = post(gateway, "stranger", body)
        assert answer.status_code == status, (body, explain(answer))
    assert (len(upstream.users), upstream.users[3]["name"], len(upstream.seen)) == (26, "x", 3)
    with session_for("stranger") as script:
        assert script.get(gateway.url + USERS, params={"start": 20, "count": 10}).json()["info"]["total"] == 26
        assert script.post(gateway.url + "/api/login", json={"username": "x", "password": "x"}).status_code == 403


def test_a_body_of_thousands_of_levels_does_no_harm(gateway, upstream):
    deep = b'{"action": "list", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    for consumer in ("reader", "onboarding"):
        assert post(gateway, consumer, deep).status_code in (200, 403)
    assert post(gateway, "reader", LIST).status_code == 200


def test_a_connection_goes_on_after_a_body_was_judged(gateway, upstream):
    with session_for("reader") as script:
        for body, status in [(LIST, 200), (DELETE, 403), (LIST, 200)]:
            assert script.post(gateway.url + USERS, data=body, headers={"Content-Type": JSON}).status_code == status
    assert len(upstream.seen) == 2
