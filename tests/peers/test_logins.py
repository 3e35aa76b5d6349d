"""Upstreams with a login: one login for all callers, one more after it has ended, and few if it fails."""
import concurrent.futures
import functools
import threading
import time

import pytest
from jms_client.client import get_client
from jms_client.v1.models.request.users import DescribeUsersRequest

from logins import BY_CLIENT, BY_PASSWORD, EVERY, ODD, TELL_THEIR_END
from world import TOKENS, Gateway, direct, explain, session_for

EIGHT = 8


@pytest.fixture(params=EVERY)
def login(request, upstream):
    login = {**EVERY, **ODD}[request.param](upstream)
    yield login
    login.stop()


@pytest.fixture
def place(tmp_path, login):
    """Starts a gateway for it, with the secret (by default the right one) in a file, or in the store."""
    gateway = Gateway(tmp_path)

    def start(secret=None, stored=False):
        gateway.write("it.secret", secret or login.secret)
        gateway.configure(login.config() + ("" if stored else login.credential()))
        if stored:
            gateway.told("credential", "add", "it", "--upstream", "it", *login.words(), "--secret-file", str(gateway.folder / "it.secret"), "--yes")
            (gateway.folder / "it.secret").unlink()
        return gateway.start()
    yield start
    assert gateway.stop() == 0


only = functools.partial(pytest.mark.parametrize, "login", indirect=True)


def at_once(callers, call):
    """The results of `call` for this many simultaneous callers."""
    ready = threading.Barrier(callers)

    def one(_):
        with session_for("onboarding") as session:
            ready.wait(10)
            return call(session)
    with concurrent.futures.ThreadPoolExecutor(callers) as pool:
        return list(pool.map(one, range(callers)))


def test_one_login_serves_every_call(place, login):
    gateway = place()
    with session_for("onboarding") as script:
        for _ in range(5):
            answer = script.get(gateway.url + login.read)
            assert login.good(answer), explain(answer)
    assert (login.logins, login.refused()) == (1, 0)


def test_eight_callers_at_once_make_one_login_and_one_more_where_it_has_ended(place, login):
    gateway = place()
    login.slow(0.05)
    for logins in (1, 2, 3, 4):
        answers = at_once(EIGHT, lambda session: session.get(gateway.url + login.read))
        assert all(map(login.good, answers)), [explain(answer) for answer in answers if not login.good(answer)]
        assert login.logins == logins
        login.expire()


def test_callers_in_a_stream_are_not_disturbed_by_logins_that_end(place, login):
    """A call that is refused with the former token must not log in if another call has already done so."""
    gateway, rounds = place(), 3

    def stream(session):
        return [session.get(gateway.url + login.read) for _ in range(30)]

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answers = pool.submit(at_once, EIGHT, stream)
        for _ in range(rounds):
            time.sleep(0.15)
            login.expire()
        answers = sum(answers.result(60), [])
    assert all(map(login.good, answers)), [explain(answer) for answer in answers if not login.good(answer)]
    assert 1 <= login.logins <= 1 + rounds


def test_a_wrong_secret_is_tried_twice_at_most_and_is_not_the_callers_fault(place, login):
    gateway = place(secret="not-the-secret")
    for _ in range(3):
        for answer in at_once(EIGHT, lambda session: session.get(gateway.url + login.read)):
            assert (answer.status_code, answer.headers.get("Claviger-Error")) == (502, "upstream_auth"), explain(answer)
            assert "WWW-Authenticate" not in answer.headers and "not-the-secret" not in answer.text
        time.sleep(0.3)
    assert 1 <= login.logins <= 2
    assert "not-the-secret" not in gateway.log.read_text() + str(gateway.trail.events())


def test_a_login_that_is_good_for_nothing_is_not_the_callers_fault(place, login):
    """Each login succeeds, and each call is refused: at most one login for each call."""
    gateway = place()
    login.be_useless()
    with session_for("onboarding") as script:
        for _ in range(5):
            answer = script.get(gateway.url + login.read)
            assert login.told(answer), explain(answer)
    assert 1 <= login.logins <= 6


def test_a_write_is_done_once_at_most_where_the_login_has_ended(place, login):
    gateway = place()
    with session_for("onboarding") as script:
        assert login.good(script.get(gateway.url + login.read))
        login.expire()
        answer = script.post(gateway.url + login.read, json=login.write)
        done = login.written()
        assert (answer.status_code in (200, 201), done) == (True, 1) or (login.told(answer), done) == (True, 0), explain(answer)
        again = script.post(gateway.url + login.read, json=login.write)
        assert (again.status_code in (200, 201), login.written()) == (True, done + 1), explain(again)


def test_what_is_logged_in_with_stays_here(place, login):
    gateway = place()
    answer = direct("GET", gateway.url + login.read, headers={"Authorization": f"Bearer {TOKENS['onboarding']}", "Cookie": "access_token=mine"})
    assert login.good(answer), explain(answer)
    assert "Set-Cookie" not in answer.headers and "access_token" not in answer.text
    left = gateway.log.read_text() + str(gateway.trail.events())
    assert login.secret not in left and TOKENS["onboarding"] not in left
    assert TOKENS["onboarding"] not in login.received() and "mine" not in login.received()


@only(TELL_THEIR_END)
def test_a_login_is_renewed_before_it_ends(place, login):
    login.live(2)
    gateway = place()
    with session_for("onboarding") as script:
        for pause in (2.2, 2.2, 0):
            assert login.good(script.get(gateway.url + login.read))
            time.sleep(pause)
    assert login.refused() == 0, "nothing was sent with a token that had ended"
    assert login.logins >= 3


def test_a_secret_in_the_store_is_logged_in_with(place, login):
    gateway = place(stored=True)
    with session_for("onboarding") as script:
        for logins in (1, 2):
            answer = script.get(gateway.url + login.read)
            assert (login.good(answer), login.logins) == (True, logins), explain(answer)
            login.expire()


# ---- behaviour of some of them only

@only(["jumpserver, second factor"])
def test_where_a_second_factor_is_asked_for_the_login_has_failed(place, login):
    gateway = place()
    for answer in at_once(EIGHT, lambda session: session.get(gateway.url + login.read)):
        assert (answer.status_code, answer.headers.get("Claviger-Error")) == (502, "upstream_auth"), explain(answer)
    assert 1 <= login.logins <= 2


@only(["jumpserver"])
def test_the_sdk_reads_on_where_the_login_has_ended(place, login):
    """The SDK's reads have a body of two bytes, and the gateway repeats them all the same."""
    gateway = place()
    client = get_client(version="v3.10", web_url=gateway.url, auth_token=f"Bearer {TOKENS['onboarding']}")
    for logins in (1, 2, 3):
        answer = client.do(DescribeUsersRequest())
        assert (answer.is_success(), login.logins) == (True, logins), answer.get_err_msg()
        login.expire()


@only(["foresight, refreshed"])
def test_a_token_is_refreshed_and_where_that_fails_logged_in_for(place, login):
    login.live(2)
    gateway = place()
    with session_for("onboarding") as script:
        assert login.good(script.get(gateway.url + login.read))
        time.sleep(2.2)
        assert login.good(script.get(gateway.url + login.read))
        assert (login.logins, login.upstream.refreshes > 0) == (1, True)
        login.expire()  # the refresh token with it
        assert login.good(script.get(gateway.url + login.read))
        assert login.logins == 2


@only([name for name in BY_PASSWORD if name.startswith("ops")])
def test_what_an_ops_backend_says_in_a_body_is_its_own_affair(place, login):
    """The gateway passes on an error that does not mean an ended login, and does not repeat a write that got one."""
    gateway = place()
    with session_for("onboarding") as script:
        missing = script.get(gateway.url + "/api/nowhere")
        assert (missing.status_code, missing.json()) == (200, {"ok": False, "info": "no such thing"}), explain(missing)
        before = len(login.upstream.seen)
        wrong = script.post(gateway.url + login.read, json={"action": "drop"})
        assert (wrong.status_code, wrong.json()) == (200, {"ok": False, "info": "no such action"}), explain(wrong)
        assert len([seen for seen in login.upstream.seen[before:] if seen.method == "POST" and seen.path == login.read]) == 1
        page = script.get(gateway.url + login.read, params={"start": 20, "count": 10}).json()["info"]
        assert (page["total"], len(page["items"])) == (25, 5)


@only(BY_CLIENT)
def test_the_clients_secret_goes_to_the_endpoint_and_the_token_to_the_api(place, login):
    gateway = place()
    with session_for("onboarding") as script:
        assert login.good(script.get(gateway.url + login.read))
        issued, = login.upstream.tokens
        assert login.secret not in str(login.api.seen) and issued in str(login.api.seen)
        assert issued not in str(login.upstream.seen) and [seen.all("x-org-id") for seen in login.upstream.seen] == [[]]
        login.upstream.stop()
        assert login.good(script.get(gateway.url + login.read)), "the token is good without its endpoint"
        login.expire()
        away = script.get(gateway.url + login.read)
        assert (away.status_code, away.json()["by"]) == (502, "claviger"), explain(away)
