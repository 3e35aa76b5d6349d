"""What has not landed yet is skipped. TO BE REMOVED, with `pytestmark` in test_logins.py and test_systems.py, once it has:
no test may be skipped then.
"""
import pathlib
import subprocess
import tempfile

import pytest

from world import CLAVIGER


def needs(scheme):
    """Skips a file whose scheme the gateway does not have yet."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "claviger.toml"
        file.write_text(f"[upstreams.u]\nprofile = 'jumpcloud'\nendpoint = 'http://127.0.0.1:1'\nscheme.{scheme} = {{}}\n")
        file.chmod(0o600)
        checked = subprocess.run([CLAVIGER, "--config", str(file), "check"], capture_output=True, text=True, timeout=60)
    return pytest.mark.skipif("is not available in this version" in checked.stderr, reason=f"{scheme} has not landed")
