"""A stand-in for JumpCloud's System Context: a machine signs with its RSA key, and the openssl command line verifies it."""
import base64
import re
import subprocess

from standin import Standin

SYSTEM = "5e9f00000000000000005757"
LINE = re.compile(r'Signature keyId="system/([0-9a-f]{24})",headers="request-line date",algorithm="rsa-sha256",signature="([A-Za-z0-9+/=]+)"')


def openssl(*words, **kwargs):
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, timeout=30, **kwargs)


def make_keys(folder):
    """One RSA key, in PKCS#8, in PKCS#1, and its public half."""
    files = {name: folder / f"{name}.pem" for name in ("pkcs8", "pkcs1", "public")}
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", files["pkcs8"], check=True)
    openssl("rsa", "-in", files["pkcs8"], "-traditional", "-out", files["pkcs1"], check=True)
    openssl("rsa", "-in", files["pkcs8"], "-pubout", "-out", files["public"], check=True)
    for file in files.values():
        file.chmod(0o600)
    return files


class Systems(Standin):
    """`GET` and `PUT /api/systems/<id>` for the system with this public key."""

    def __init__(self, public):
        super().__init__()
        self.public, self.system = public, {"id": SYSTEM, "displayName": "before"}

    def answer(self, request):
        if not self.verified(request):
            return 401, {"message": "Unauthorized"}
        if request.path != f"/api/systems/{SYSTEM}":
            return 404, {"message": "Not Found"}
        if request.method == "PUT":
            self.system.update(request.json())
        return 200, self.system

    def verified(self, request):
        """Covers the request line as received, without a label, and the date."""
        lines, dates = request.all("Authorization"), request.all("Date")
        fields = LINE.fullmatch(lines[0]) if len(lines) == 1 else None
        if not fields or len(dates) != 1 or fields[1] != SYSTEM or request.version != "HTTP/1.1" or request.all("x-api-key"):
            return False
        signature = self.public.with_name(f"signature-{len(self.seen)}")
        signature.write_bytes(base64.b64decode(fields[2]))
        signed = f"{request.line}\ndate: {dates[0]}".encode()
        return openssl("dgst", "-sha256", "-verify", self.public, "-signature", signature, input=signed).returncode == 0
