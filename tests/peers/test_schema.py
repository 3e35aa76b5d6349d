"""The schema for editors agrees with the gateway, as far as a schema can."""
import copy
import datetime
import json
import re
import subprocess
import tomllib

import jsonschema
import pytest

from world import CLAVIGER, ROOT

CONFIG = ROOT / "config"
COMPLETE = (CONFIG / "claviger.toml").read_text()
SCHEMA = json.loads((CONFIG / "claviger.schema.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def everything_set(text):
    """The complete file with every optional key set: `#key = …` counts as `key = …`."""
    return re.sub(r"(?m)^#(?=[^ #:\n])", "", text)


def parsed(text):
    """As an editor's checker sees it: a date is a string."""
    return json.loads(json.dumps(tomllib.loads(text), default=lambda date: date.isoformat()))


def faults(document):
    return [error.message for error in VALIDATOR.iter_errors(document)]


def written(value):
    """TOML, all of it inline below the top level."""
    if isinstance(value, dict):
        return "{%s}" % ", ".join(f"{json.dumps(key)} = {written(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "[%s]" % ", ".join(map(written, value))
    return json.dumps(value, ensure_ascii=False)


def places(value, path=()):
    """Every key and item below, outermost first."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


def properties(schema):
    """Every key that the schema knows."""
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from properties(part)
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        yield from schema["properties"]


def wrong_type(value):
    return "x" if isinstance(value, (bool, int)) else 3.5


def changed(document, path, change):
    """The document after a change of the value at `path`."""
    document = copy.deepcopy(document)
    inside = document
    for key in path[:-1]:
        inside = inside[key]
    change(inside, path[-1])
    return document


def misspell(inside, key):
    inside[f"{key}_x"] = inside.pop(key)


def mistype(inside, key):
    inside[key] = wrong_type(inside[key])


def is_own_name(path):
    """Whether the file's author chose the key: the name of an upstream, an organisation, or a query member."""
    named = ("upstreams", "credentials", "consumers", "roles")
    is_sink = len(path) == 3 and path[:2] == ("audit", "sinks")
    return is_sink or (len(path) == 2 and path[0] in named) or (len(path) > 1 and path[-2] in ("query", "body", "org_names"))


EVERYTHING = parsed(everything_set(COMPLETE))
KEYS = [path for path in places(EVERYTHING) if isinstance(path[-1], str) and not is_own_name(path)]


def told(document, folder):
    """The problems that `check` reports for the document, by message."""
    file = folder / "claviger.toml"
    file.write_text("".join(f"{json.dumps(key)} = {written(value)}\n" for key, value in document.items()))
    done = subprocess.run([CLAVIGER, "check", "--config", str(file), "--output", "json"],
                          capture_output=True, text=True, timeout=60, env={})
    return {problem["message"] for problem in json.loads(done.stdout)["problems"]}


@pytest.mark.parametrize("file", ["config/claviger.toml", "config/minimal.toml", "config/roles/jumpserver.toml",
                                  "config/roles/jumpcloud.toml", "src/config/tests/complete.toml"])
def test_the_files_that_ship_pass(file):
    assert faults(parsed((ROOT / file).read_text())) == []


def test_everything_set_passes():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert faults(EVERYTHING) == []


def test_it_has_the_keys_of_the_complete_file_and_no_others():
    """Another test checks that the complete file has every key of the gateway."""
    known = set(properties(SCHEMA))
    assert {path[-1] for path in KEYS} <= known
    assert len(known) > 60 and [key for key in known if not re.search(rf"\b{re.escape(key)}\b", COMPLETE)] == []


@pytest.mark.parametrize("change", [misspell, mistype])
def test_what_the_gateway_refuses_it_refuses_too(change, tmp_path):
    tmp_path.chmod(0o700)
    before = told(EVERYTHING, tmp_path)
    for path in KEYS:
        if change is mistype and path[-1] == "equals":
            continue  # accepts any JSON there
        document = changed(EVERYTHING, path, change)
        assert told(document, tmp_path) - before, f"the gateway takes {path}"
        assert faults(document), f"the schema takes {path}"


@pytest.mark.parametrize(("path", "value"), [
    (("upstreams", "jumpserver", "profile"), "jumpsrver"),
    (("upstreams", "jumpserver", "scheme"), {}),
    (("upstreams", "jumpserver", "scheme"), {"bearer": {}, "token": {}}),
    (("upstreams", "jumpserver", "scheme"), {"bearer": {"name": "x"}}),
    (("upstreams", "jumpserver", "scheme"), {"header": {}}),
    (("upstreams", "jumpserver", "scheme"), {"rsa": {"form": "jumpcloud"}}),
    (("upstreams", "jumpserver", "scheme"), {"rsa": {"headers": []}}),
    (("upstreams", "jumpserver", "scheme"), {"client-credentials": {"auth": "bearer"}}),
    (("credentials", "jms-prod"), {"rsa": {"id": "system/a", "key": "-----BEGIN"}}),
    (("credentials", "jms-prod"), {"client": {"id": "a"}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"preset": "jumpcloud"}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"token": "token"}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"send": "cookie"}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"send": {"header": "a", "cookie": "b"}}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"failed": {"pointer": "/ok"}}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"refresh": {"token": "/a"}}}),
    (("upstreams", "jumpserver", "scheme"), {"login": {"lifetime": "1w"}}),
    (("credentials", "jms-prod"), {"value": "a literal secret"}),
    (("credentials", "jms-prod"), {"value": {"file": "a", "env": "B"}}),
    (("credentials", "jms-prod"), {"value": {"env": "$B"}}),
    (("consumers", "onboarding", "token_sha256"), ["clv_a_token_itself"]),
    (("custody", "store_max_staleness"), "60"),
    (("limits", "max_body"), "16 MB"),
    (("limits", "max_headers"), 0),
    (("limits", "idle_timeout"), "120"),
    (("routes", 0, "prefix"), "api"),
    (("grants", 0, "roles"), []),
    (("grants", 0, "roles"), ["a:b:c"]),
    (("roles", "users-admin", "allow", 0, "methods"), ["get"]),
    (("roles", "users-admin", "allow", 0, "paths"), []),
    (("listeners", 0, "address"), "localhost:7070"),
    (("audit", "durability"), "never"),
])
def test_both_refuse_such_values(path, value, tmp_path):
    tmp_path.chmod(0o700)
    document = changed(EVERYTHING, path, lambda inside, key: inside.__setitem__(key, value))
    assert faults(document) and told(document, tmp_path) - told(EVERYTHING, tmp_path)
