"""Which parts of the gateway are there yet. TO BE REMOVED with its uses, once all are: no test may be skipped then."""
import pathlib
import subprocess
import tempfile

import pytest

from world import CLAVIGER

LINES = {
    "login": "[upstreams.u]\nprofile = 'foresight'\nendpoint = 'http://127.0.0.1:1'\nscheme.login = {}\n",
    "client-credentials": "[upstreams.u]\nprofile = 'jumpcloud'\nendpoint = 'http://127.0.0.1:1'\nscheme.client-credentials = {}\n",
    "rsa": "[upstreams.u]\nprofile = 'jumpcloud'\nendpoint = 'http://127.0.0.1:1'\nscheme.rsa = {}\n",
    "body": "[roles.r]\nallow = [{ methods = ['POST'], paths = ['/x'], body = { action = 'list' } }]\n",
}


def lands(part):
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "claviger.toml"
        file.write_text(LINES[part])
        file.chmod(0o600)
        checked = subprocess.run([CLAVIGER, "--config", str(file), "check"], capture_output=True, text=True, timeout=60)
        return not any(word in checked.stderr + checked.stdout for word in ("is not available in this version", "unknown key `body`"))


def needs(part):
    """Skips what needs a part that has not landed."""
    return pytest.mark.skipif(not lands(part), reason=f"{part} has not landed")
