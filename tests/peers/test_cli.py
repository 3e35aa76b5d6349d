"""The command line, as an operator types it: `claviger --config FILE verb …`."""
import email.utils
import re
import subprocess
import time

import pytest

from canonical import canonical
from world import CLAVIGER, DEFAULT, SECRET, TOKENS

FORBIDDEN = (SECRET, *TOKENS.values())


@pytest.fixture
def gateway(own_gateway):
    """A gateway with all its files, which does not run."""
    return own_gateway


def test_check_passes_the_config(gateway):
    checked = gateway.run("check")
    assert checked.returncode == 0, checked


def test_the_config_may_be_named_after_the_verb(gateway):
    checked = subprocess.run([CLAVIGER, "check", "--config", str(gateway.config)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked


@pytest.mark.parametrize(("wrong", "named"), [
    ('\nno_such_key = 1\n', "no_such_key"),
    ('\n[[grants]]\nconsumer = "nobody"\nupstream = "jumpserver"\nroles = ["everything"]\n', "nobody"),
    ('\n[[grants]]\nconsumer = "reader"\nupstream = "nowhere"\nroles = ["everything"]\n', "nowhere"),
    ('\n[[grants]]\nconsumer = "reader"\nupstream = "jumpserver"\nroles = ["no-such-role"]\n', "no-such-role"),
])
def test_check_refuses_and_names_what_is_wrong(gateway, wrong, named):
    gateway.write("claviger.toml", (wrong if wrong.startswith("\nno") else "") + gateway.config.read_text() + (wrong if wrong.startswith("\n[") else ""))
    checked = gateway.run("check")
    assert checked.returncode == 1, checked
    assert named in checked.stdout + checked.stderr


def test_check_refuses_a_missing_secret_file(gateway):
    (gateway.folder / "jms.secret").unlink()
    checked = gateway.run("check")
    assert checked.returncode == 1, checked
    assert "jms.secret" in checked.stdout + checked.stderr


def signing_string(printed):
    """The three lines that would be signed, at any depth of the printed output."""
    found = re.search(r"\(request-target\): (?P<target>[^\n]*)\n\s*accept: (?P<accept>[^\n]*)\n\s*date: (?P<date>[A-Z][^\n]* GMT)", printed)
    assert found, f"no signing string in:\n{printed}"
    return found


@pytest.mark.parametrize(("method", "target"), [
    ("GET", "/api/v1/users/users/?username=%E5%BC%A0%E4%B8%89+a%2Bb"),
    ("GET", "/api/v1/users/users"),
    ("POST", "/api/v1/users/users/"),
    ("DELETE", "/api/v1/users/users/?username=a|b&x={1}"),
    ("GET", "/u/a%2Bb;v=1/%e4%b8%ad/%7E?q=\"^\""),
])
@pytest.mark.parametrize("prefix", ["", "/jumpserver"])
def test_explain_prints_the_string_that_would_be_signed(gateway, prefix, method, target):
    explained = gateway.run("explain", "--consumer", "onboarding", method, f"{gateway.url}{prefix}{target}")
    assert explained.returncode == 0, explained
    lines = signing_string(explained.stdout)
    assert lines["target"] == f"{method.lower()} {canonical(target.encode())}"
    assert lines["accept"] == "application/json"
    assert abs(email.utils.parsedate_to_datetime(lines["date"]).timestamp() - time.time()) < 60
    assert DEFAULT in explained.stdout and "everything" in explained.stdout, "the org and the rule are told"
    assert not [secret for secret in FORBIDDEN if secret in explained.stdout + explained.stderr]


def test_explain_tells_a_denial(gateway):
    explained = gateway.run("explain", "--consumer", "reader", "DELETE", f"{gateway.url}/api/v1/users/users/?username=x")
    assert "denied" in explained.stdout.lower(), explained


def test_a_word_that_is_no_verb_is_a_usage_error(gateway):
    assert gateway.run("no-such-verb").returncode == 2
