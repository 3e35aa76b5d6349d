"""200 MB in one direction or the other: the gateway never keeps a streamed body in memory."""
import hashlib
import random
import subprocess

import pytest

import world
from world import TOKENS, explain, session_for

MIB = 1024 * 1024
SIZE, MOST_GROWTH = 200 * MIB, 40 * MIB
PIECE = random.Random(200).randbytes(MIB)
EXPORT, UPLOAD = f"/api/v1/audits/export/?bytes={SIZE}", "/api/v1/upload/"


@pytest.fixture
def gateway(own_gateway, upstream):
    own_gateway.configure(world.config(upstream), limits=f"max_body = {SIZE}")
    own_gateway.start()
    with session_for("onboarding") as session:
        assert session.get(own_gateway.url + "/api/v1/users/users/").status_code == 200  # connections and buffers exist already
    upstream.reset()
    return own_gateway


@pytest.fixture
def own_script():
    with session_for("onboarding") as session:
        yield session


@pytest.fixture
def growth(gateway):
    """The rise of the gateway's peak memory since the test began, in bytes."""
    before, _ = gateway.resident()
    gateway.forget_peak()

    def measured():
        now, peak = gateway.resident()
        print(f"resident before {before / MIB:.1f} MiB, peak {peak / MIB:.1f}, after {now / MIB:.1f}: grew by {(peak - before) / MIB:.1f} MiB")
        return peak - before
    return measured


def pieces():
    return (PIECE for _ in range(SIZE // len(PIECE)))


def csv():
    """The export, computed here: the same thousand rows over and over, cut off at its size."""
    rows = b"".join(b"00000000-0000-4000-8000-%012d,user%07d,%s,user%07d@example.com\n" % (n, n, "张三".encode(), n) for n in range(1000))
    return (rows[:SIZE - start] for start in range(0, SIZE, len(rows)))


def digest(chunks):
    digest, length = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        length += len(chunk)
    return length, digest.hexdigest()


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
def test_an_export_of_200_mb_streams(gateway, own_script, upstream, growth, framing):
    announced = "&announced=1" if framing == "content-length" else ""
    answer = own_script.get(f"{gateway.url}/jumpserver{EXPORT}{announced}", stream=True)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/csv"), explain(answer)
    assert answer.headers.get("Content-Length") == (str(SIZE) if announced else None)
    assert digest(answer.iter_content(MIB)) == digest(csv())
    assert growth() < MOST_GROWTH


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
def test_an_upload_of_200_mb_arrives_whole(gateway, own_script, upstream, growth, framing, tmp_path):
    file = tmp_path / "upload"
    with file.open("w+b") as body:
        body.writelines(pieces())
        body.seek(0)
        answer = own_script.put(f"{gateway.url}/jumpserver{UPLOAD}", data=pieces() if framing == "chunked" else body)
    assert answer.status_code == 201, explain(answer)
    assert answer.json() == dict(zip(("length", "sha256"), digest(pieces())))
    assert dict(upstream.only()["headers"])["content-length"] == str(SIZE)
    assert growth() < MOST_GROWTH


def test_curl_uploads_and_downloads_as_much(gateway, upstream, growth, tmp_path):
    file = tmp_path / "upload"
    with file.open("wb") as out:
        out.writelines(pieces())
    curl = ["curl", "-sS", "--noproxy", "*", "-H", f"Authorization: Bearer {TOKENS['onboarding']}"]
    # After a slash curl would append the file's name; the gateway adds the slash.
    told = subprocess.run([*curl, "-T", file, gateway.url + UPLOAD.rstrip("/")], capture_output=True, text=True, timeout=120, check=True).stdout
    assert digest(pieces())[1] in told
    subprocess.run([*curl, "-o", file, gateway.url + EXPORT], timeout=120, check=True)
    with file.open("rb") as written:
        assert digest(iter(lambda: written.read(MIB), b"")) == digest(csv())
    assert growth() < MOST_GROWTH
