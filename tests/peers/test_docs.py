"""The commands of the README and of the pages of docs/ are run as written; `pages.py` describes how.

The Chinese pages have the same blocks, as `test_translations.py` proves: a run of the English ones covers both.
"""
import json
import re
import subprocess

import pytest

import foresight
import jumpcloud
import oauth
import ops
import systems
from pages import DOCS, KNOWN, Reader, before, blocks, missing, pages
from world import CLAVIGER, KEY_ID, PASSWORDS, PRIVATE_TOKEN, ROOT, SECRET, direct

MOST_NOT_RUN = 10
EVERY = [ROOT / "README.md", *pages()]
RUN = [page for page in EVERY if any(block.language in ("sh", "python") and not block.norun for block in blocks(page))]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.fixture
def reader(tmp_path, upstream):
    direct("GET", f"{upstream.url}/_reset/", params={"users": 3})
    (tmp_path / "pem").mkdir()
    keys = systems.make_keys(tmp_path / "pem")
    with (jumpcloud.Upstream() as cloud, foresight.Foresight() as mobile, ops.Ops() as backend, oauth.TokenEndpoint() as endpoint,
          oauth.Api(endpoint) as api, systems.Systems(keys["public"].read_text()) as machines):
        places = {
            "https://jms.example.com": upstream.url, "https://foresight.example.com": mobile.url, "https://ops.example.com": backend.url,
            "https://admin-oauth.id.jumpcloud.com": endpoint.url,
            "https://console.jumpcloud.com/account": api.url, "https://console.jumpcloud.com": cloud.url,
            "5e9f0f1c2b3a4d5e6f708192": jumpcloud.ORG, "UUID": KEY_ID, "svc-gateway": "robot", "CLIENT": "client",
        }
        secrets = {"jms": SECRET, "jms-token": PRIVATE_TOKEN, "jms-login": PASSWORDS["robot"], "jumpcloud-key": jumpcloud.KEY,
                   "foresight-login": foresight.PASSWORD, "ops-login": ops.PASSWORD, "api-key": "fake-key-of-any-other", "tasks-login": ops.PASSWORD, "jumpcloud-client": "fake-client-secret",
                   "found": "a-secret-that-was-found"}
        reader = Reader(tmp_path, places, secrets)
        (reader.folder / "gateway").mkdir(mode=0o700)
        (reader.folder / "gateway" / "system.pem").write_bytes(keys["pkcs8"].read_bytes())
        yield reader


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_is_run_as_it_stands(page, reader):
    done = [block for part in before(page) for block in blocks(part) if not block.norun]
    lacking = missing(done, reader.follow(done))
    assert not lacking, "\n".join(lacking)


def test_little_is_not_run_and_each_with_a_reason():
    left = [(name(page), block.norun) for page in EVERY for block in blocks(page) if block.norun]
    assert len(left) <= MOST_NOT_RUN and all(len(reason) > 20 for _, reason in left), left
    assert len(RUN) >= 10, "the pages are found"


@pytest.mark.parametrize("page", EVERY, ids=name)
def test_each_block_is_of_a_kind_that_is_checked(page):
    for block in blocks(page):
        assert block.language in KNOWN, block
        assert block.language != "toml" or block.title, f"a file that it belongs to: {block}"
        if block.language == "json":
            json.loads(block.text)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CONTRIBUTING.md", ROOT / "deploy" / "README.md"], ids=name)
def test_what_is_linked_is_there(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    gone = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not gone, gone


def test_the_metrics_that_there_are_are_on_the_page(gateway):
    told = re.findall(r"^# TYPE (\w+) (\w+)$", direct("GET", f"http://127.0.0.1:{gateway.admin_port}/metrics").text, re.M)
    page = (DOCS / "en" / "operations.md").read_text()
    every = [metric + ("_total" if kind == "counter" else "") for metric, kind in told]
    assert len(every) > 5 and not [metric for metric in every if f"`{metric}`" not in page]


def test_each_command_that_is_named_exists_with_its_options():
    named = set()
    for page in EVERY:
        named.update(re.findall(r"`(claviger [a-z][^`\n]*)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)))
    wrong = []
    for command in sorted(named):
        verb, *words = re.split(r"[\s,=]+", command.removeprefix("claviger "))
        subs = words[0].split("|") if words and re.fullmatch(r"[a-z][a-z|-]*", words[0].replace("\\", "")) else [""]
        for sub in (sub.strip("\\") for sub in subs):
            done = subprocess.run([CLAVIGER, *filter(None, [verb, sub]), "--help"], capture_output=True, text=True)
            lacking = [word for word in words if word.startswith("-") and word not in done.stdout]
            if done.returncode or lacking:
                wrong.append((command, sub, lacking, done.stderr))
    assert len(named) > 40 and not wrong, wrong


def keys(schema, place=()):
    """Every key of the schema: its place, and its default."""
    for key, value in schema.get("properties", {}).items():
        yield (*place, key), value.get("default")
        yield from keys(value, (*place, key))
    for part in ("additionalProperties", "items"):
        if isinstance(schema.get(part), dict):
            yield from keys(schema[part], place)
    for part in ("oneOf", "anyOf", "allOf"):
        for one in schema.get(part, []):
            yield from keys(one, place)


def test_the_page_on_configuration_has_every_key_with_its_default():
    schema = json.loads((ROOT / "config" / "claviger.schema.json").read_text())
    page = (DOCS / "en" / "configuration.md").read_text()
    every = list(keys(schema))
    lacking = [place for place, _ in every if not re.search(rf"\b{re.escape(place[-1])}\b", page)]
    limits = [f"| `{place[-1]}` | `{json.dumps(default)}` |" for place, default in every if len(place) == 2 and default is not None]
    assert len(every) > 100 and len(limits) > 25
    assert not lacking + [line for line in limits if line not in page]
