"""The output of `audit export`, read by its intended readers: Python's csv, and Arrow."""
import csv
import datetime
import json

import pyarrow.parquet
import pytest

import wire
from world import Gateway, config, session_for

USERS = "/api/v1/users/users/"
TIMES = ("time", "at", "since")


@pytest.fixture
def busy(tmp_path, running_upstream):
    gateway = Gateway(tmp_path)
    gateway.configure(config(running_upstream))
    gateway.start()
    with session_for("onboarding") as script:
        for number in range(30):
            assert script.get(gateway.url + f"{USERS}?limit={number + 1}", headers={"User-Agent": '=cmd|" /C calc"!A1, x'}).status_code == 200
    assert wire.send(gateway.port, "GET", USERS.encode(), [b"Authorization: Bearer nobody-has-this-token"]).status == 401
    assert gateway.stop() == 0
    return gateway


def exported(gateway, form, *more):
    file = gateway.folder / f"export.{form}"
    gateway.told("audit", "export", str(file), "--format", form, *more)
    return file


def test_json_lines_are_the_lines_of_the_trail(busy):
    assert exported(busy, "jsonl").read_bytes().splitlines() == busy.trail.lines()


def member(event, name):
    """The value of an event in the column `name`."""
    if name == "credential_version" and event["event"] == "admin":
        return event.get("version")
    return event.get(name)


def test_csv_says_of_each_event_what_its_line_says_and_holds_no_formula(busy):
    with exported(busy, "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [line.decode() for line in busy.trail.lines()]
    assert len(rows) == len(lines) > 60
    for row, line in zip(rows, lines):
        event = json.loads(line)
        assert row.pop("line") == line
        for name, value in row.items():
            text = "" if member(event, name) is None else str(member(event, name))
            assert value == ("'" + text if text[:1] in "=+-@" and text else text), name
    assert any(row["user_agent"].startswith("'=cmd") for row in rows)


def test_parquet_says_the_same_in_columns(busy):
    table = pyarrow.parquet.read_table(exported(busy, "parquet"))
    rows, lines = table.to_pylist(), [line.decode() for line in busy.trail.lines()]
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines):
        event = json.loads(line)
        assert row.pop("line") == line
        expected = {name: member(event, name) for name in row}
        for name in TIMES:
            expected[name] = expected[name] and datetime.datetime.fromisoformat(expected[name])
        assert row == expected
    assert table.schema.field("seq").type == pyarrow.int64()
    for name in TIMES:
        assert table.schema.field(name).type == pyarrow.timestamp("us", tz="UTC"), name
    assert table.column("time").null_count == 0


def test_a_change_has_columns_of_who_and_what(busy):
    issued = busy.told("token", "issue", "--consumer", "onboarding")
    busy.start()
    assert busy.stop() == 0
    table = pyarrow.parquet.read_table(exported(busy, "parquet", "--what", "token issued"))
    (row,) = table.to_pylist()
    assert (row["event"], row["what"], row["consumer"]) == ("admin", "token issued", "onboarding")
    assert row["token"] == issued["id"] and "uid" in row["by"]
    assert row["at"] <= row["time"] and row["change"]


def test_a_part_is_what_was_asked_for(busy):
    table = pyarrow.parquet.read_table(exported(busy, "parquet", "--status", "401"))
    assert table.column("status").to_pylist() == [401]
