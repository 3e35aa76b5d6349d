"""The fixtures. The upstream and one gateway live for the whole run; each test starts with an empty upstream."""
import pytest

from world import Gateway, Upstream, session_for


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
    """The shared gateway, before an emptied upstream."""
    return running_gateway


@pytest.fixture
def own_gateway(tmp_path, upstream):
    """A gateway that this test alone may stop, and whose files it may spoil; not started yet."""
    gateway = Gateway(tmp_path, upstream)
    yield gateway
    gateway.stop()


@pytest.fixture
def script(gateway):
    """What a script holds: a `requests` session with the bearer token of the consumer `onboarding`."""
    with session_for("onboarding") as session:
        yield session
