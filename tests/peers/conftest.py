"""The fixtures. The upstream and one gateway run for the whole session; each test starts with an empty upstream."""
import pytest

from clients import TWO, Httpsig
from world import KEY_ID, PRIVATE_TOKEN, SECRET, TOKENS, Gateway, Place, Upstream, session_for, until


@pytest.fixture(scope="session")
def running_upstream(tmp_path_factory):
    upstream = Upstream(tmp_path_factory.mktemp("upstream"))
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(running_upstream):
    """The stand-in JumpServer, emptied."""
    running_upstream.reset()
    return running_upstream


@pytest.fixture(scope="session")
def running_gateway(tmp_path_factory, running_upstream):
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), running_upstream).start()
    yield gateway
    code = gateway.stop()
    assert code == 0, f"the gateway ended with {code} on SIGTERM; its log ends:\n{gateway.log.read_text()[-3000:]}"


@pytest.fixture
def gateway(running_gateway, upstream):
    """The shared gateway, for an emptied upstream."""
    return running_gateway


@pytest.fixture
def own_gateway(tmp_path, upstream):
    """A gateway that only this test uses: it may stop it and damage its files; not started yet."""
    gateway = Gateway(tmp_path, upstream)
    yield gateway
    gateway.stop()


@pytest.fixture
def script(gateway):
    """A script's session: `requests` with the bearer token of the consumer `onboarding`."""
    with session_for("onboarding") as session:
        yield session


@pytest.fixture(scope="session")
def issued_key(running_gateway):
    """A virtual access key of the consumer `onboarding`, already in effect."""
    key = running_gateway.access_key("onboarding")
    until(lambda: Httpsig(TWO).call(key, "GET", running_gateway.url + "/api/v1/users/users/").status == 200)
    return key


@pytest.fixture(params=["upstream", "gateway", "gateway by a prefix"])
def place(request, upstream):
    """The place where a client is pointed, and its credentials there: it must work the same at the upstream and the gateway."""
    if request.param == "upstream":
        return Place(upstream.url, (KEY_ID, SECRET), f"Token {PRIVATE_TOKEN}")
    gateway, key = request.getfixturevalue("gateway"), request.getfixturevalue("issued_key")
    upstream.reset()
    return Place(gateway.url + ("/jumpserver" if "prefix" in request.param else ""), key, f"Token {TOKENS['onboarding']}")
