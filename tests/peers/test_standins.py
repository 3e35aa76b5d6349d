"""The small stand-ins behave as described, without a gateway."""
import base64
import email.utils
import json
import time
from urllib.parse import quote_plus

import pytest

import foresight
import ops
from foresight import ACCOUNTS, AUTH, REFRESH, Foresight
from jumpcloud import ORG
from oauth import CLIENT_ID, CLIENT_SECRET, TOKEN_PATH, Api, TokenEndpoint
from ops import USERS, Ops
from systems import SYSTEM, Systems, make_keys, openssl
from world import direct

# ---- Foresight


def foresight_tokens(upstream, password=foresight.PASSWORD):
    return direct("POST", upstream.url + AUTH, json={"username": foresight.NAME, "password": password})


def test_foresight_gives_two_jwts_whose_end_can_be_read():
    with Foresight() as upstream:
        told = foresight_tokens(upstream).json()
        assert set(told) == {"token", "refresh_token"}
        for token, days in [(told["token"], 14), (told["refresh_token"], 45)]:
            header, claims = (json.loads(foresight.decoded(part)) for part in token.split(".")[:2])
            assert header == {"typ": "JWT", "alg": "HS256"} and abs(claims["exp"] - time.time() - days * 86400) < 60
        assert foresight_tokens(upstream, "wrong").status_code == 401
        assert upstream.logins == 2


def test_foresight_takes_its_own_access_token_until_it_ends():
    with Foresight(life=1) as upstream:
        told = foresight_tokens(upstream).json()
        access, spoilt = told["token"], told["token"][:-4] + "AAAA"
        for token, status in [(access, 200), (told["refresh_token"], 401), (spoilt, 401), ("x", 401), ("x.y.z", 401)]:
            assert direct("GET", upstream.url + ACCOUNTS, headers={"Authorization": f"Bearer {token}"}).status_code == status, token
        time.sleep(1.1)
        assert direct("GET", upstream.url + ACCOUNTS, headers={"Authorization": f"Bearer {access}"}).status_code == 401
        renewed = direct("POST", upstream.url + REFRESH, json={"refresh_token": told["refresh_token"]}).json()["token"]
        assert direct("GET", upstream.url + ACCOUNTS, headers={"Authorization": f"Bearer {renewed}"}).status_code == 200
        upstream.expire()
        assert direct("GET", upstream.url + ACCOUNTS, headers={"Authorization": f"Bearer {renewed}"}).status_code == 401
        assert direct("POST", upstream.url + REFRESH, json={"refresh_token": told["refresh_token"]}).status_code == 401
        assert (upstream.logins, upstream.refreshes) == (1, 2)


def test_foresight_has_pages_trailing_slashes_and_204():
    with Foresight() as upstream:
        bearer = {"Authorization": "Bearer " + foresight_tokens(upstream).json()["token"]}
        for name in "abc":
            assert direct("POST", upstream.url + ACCOUNTS, headers=bearer, json={"id": name}).status_code == 201
        page = direct("GET", upstream.url + ACCOUNTS, headers=bearer).json()
        assert page == {"count": 3, "next": f"{upstream.url}{ACCOUNTS}?limit=2&offset=2", "previous": None, "results": [{"id": "a"}, {"id": "b"}]}
        page = direct("GET", page["next"], headers=bearer).json()
        assert (page["next"], page["previous"], page["results"]) == (None, f"{upstream.url}{ACCOUNTS}?limit=2&offset=0", [{"id": "c"}])
        moved = direct("GET", upstream.url + ACCOUNTS.rstrip("/"), headers=bearer, allow_redirects=False)
        assert (moved.status_code, moved.headers["Location"]) == (301, ACCOUNTS)
        gone = direct("DELETE", f"{upstream.url}{ACCOUNTS}b/", headers=bearer)
        assert (gone.status_code, gone.content, list(upstream.accounts)) == (204, b"", ["a", "c"])


# ---- the ops backend

def ops_login(upstream, password=ops.PASSWORD):
    return direct("POST", upstream.url + "/api/login", json={"username": ops.NAME, "password": password})


@pytest.mark.parametrize("ended", [200, 403])
@pytest.mark.parametrize("shape", ["token", "cookie"])
def test_ops_logs_in_in_both_shapes_and_says_in_the_body_what_is_wrong(shape, ended):
    with Ops(shape, ended) as upstream:
        assert ops_login(upstream, "wrong").json() == {"ok": False, "info": "wrong name or password"}
        made = ops_login(upstream)
        if shape == "token":
            sent = [{"X-Auth-Token": made.json()["info"]["access_token"]}, {"Cookie": f'access_token="{made.json()["info"]["access_token"]}"'}]
        else:
            assert "access_token" not in made.text
            sent = [{"Cookie": made.headers["Set-Cookie"].partition(";")[0]}]
        for headers in sent:
            answer = direct("GET", upstream.url + USERS, headers=headers)
            assert (answer.status_code, answer.json()["ok"]) == (200, True), answer.text
        upstream.expire()
        answer = direct("GET", upstream.url + USERS, headers=sent[0])
        assert (answer.status_code, answer.json()) == (ended, {"ok": False, "info": "login required"})
        assert upstream.logins == 2


def test_ops_has_pages_and_actions():
    with Ops() as upstream:
        headers = {"X-Auth-Token": ops_login(upstream).json()["info"]["access_token"]}
        told = direct("GET", upstream.url + USERS, params={"start": 20, "count": 10}, headers=headers).json()["info"]
        assert (told["total"], [user["id"] for user in told["items"]]) == (25, [20, 21, 22, 23, 24])
        for action, data, left in [("add", {"id": 25, "name": "x"}, 26), ("update", {"id": 3, "name": "y"}, 26), ("delete", {"id": 4}, 25)]:
            assert direct("POST", upstream.url + USERS, json={"action": action, "data": data}, headers=headers).json()["ok"]
            assert len(upstream.users) == left
        assert upstream.users[3]["name"] == "y"
        assert direct("POST", upstream.url + USERS, json={"action": "drop"}, headers=headers).json()["ok"] is False


# ---- OAuth

FORM = {"grant_type": "client_credentials", "scope": "api"}


def basic(name, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{quote_plus(name)}:{quote_plus(password)}".encode()).decode()}


def test_the_token_endpoint_wants_the_client_in_one_way_only():
    posted = {**FORM, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    for auth, data, headers, status in [
        ("basic", FORM, basic(CLIENT_ID, CLIENT_SECRET), 200),
        ("basic", FORM, basic(CLIENT_ID, "wrong"), 401),
        ("basic", posted, {}, 401),
        ("basic", posted, basic(CLIENT_ID, CLIENT_SECRET), 401),
        ("basic", {**FORM, "grant_type": "password"}, basic(CLIENT_ID, CLIENT_SECRET), 400),
        ("basic", {**FORM, "scope": "other"}, basic(CLIENT_ID, CLIENT_SECRET), 400),
        ("form", posted, {}, 200),
        ("form", {**posted, "client_secret": "wrong"}, {}, 401),
        ("form", posted, basic(CLIENT_ID, CLIENT_SECRET), 401),
    ]:
        with TokenEndpoint(auth) as endpoint:
            answer = direct("POST", endpoint.url + TOKEN_PATH, data=data, headers=headers)
            assert answer.status_code == status, (auth, data, headers, answer.text)
            assert status != 200 or (answer.json()["token_type"], answer.json()["expires_in"]) == ("bearer", 3600)


def test_the_api_takes_the_endpoints_token_until_it_ends():
    with TokenEndpoint(life=1) as endpoint, Api(endpoint) as api:
        def call(token, **headers):
            return direct("GET", api.url + "/api/v2/users?limit=3&skip=24", headers={"Authorization": f"Bearer {token}", "x-org-id": ORG, **headers})

        token = direct("POST", endpoint.url + TOKEN_PATH, data=FORM, headers=basic(CLIENT_ID, CLIENT_SECRET)).json()["access_token"]
        assert (call(token).status_code, call(token).json()) == (200, [{"id": 24}])
        assert [call("x").status_code, call(token, **{"x-org-id": ""}).status_code] == [401, 400]
        time.sleep(1.1)
        assert call(token).status_code == 401


# ---- System Context

def test_openssl_verifies_a_systems_request_line_and_date(tmp_path):
    keys, date = make_keys(tmp_path), email.utils.formatdate(usegmt=True)
    target = f"/api/systems/{SYSTEM}"
    with Systems(keys["public"]) as upstream:
        def call(signed, key="pkcs8", method="GET", **headers):
            mac = openssl("dgst", "-sha256", "-sign", keys[key], input=signed.encode(), check=True).stdout
            line = f'Signature keyId="system/{SYSTEM}",headers="request-line date",algorithm="rsa-sha256",signature="{base64.b64encode(mac).decode()}"'
            body = {"json": {"displayName": "after"}} if method == "PUT" else {}
            return direct(method, upstream.url + target, headers={"Date": date, "Authorization": line, **headers}, **body).status_code

        good = f"GET {target} HTTP/1.1\ndate: {date}"
        assert [call(good), call(good, key="pkcs1")] == [200, 200]
        for wrong in (f"GET {target} HTTP/1.0\ndate: {date}", f"request-line: {good}", f"(request-target): get {target}\ndate: {date}", good + "\n"):
            assert call(wrong) == 401, wrong
        assert [call(good, Date="garbage"), call(good, method="PUT"), call(good, **{"x-api-key": "x"})] == [401, 401, 401]
        assert call(good.replace("GET", "PUT"), method="PUT") == 200
        assert upstream.system["displayName"] == "after"
