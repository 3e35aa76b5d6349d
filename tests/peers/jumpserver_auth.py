"""The authentication of the stand-in JumpServer: access keys, private tokens, and tokens of a login with name and password.

REST framework reads the `Bearer` and `Token` lines, and pyhttpsig checks the signatures. `jumpserver.py` imports this
once Django has its settings. JUMPSERVER_KNOWS holds {"keys": {"<id>": "<secret>"}, "token": "…", "passwords": {"<name>": "…"}}.
"""
import datetime
import json
import os
import secrets
import uuid

from httpsig import HeaderVerifier  # the module that pyhttpsig installs
from httpsig.utils import parse_authorization_header
from rest_framework import authentication, exceptions, permissions, response, views

KNOWN = json.loads(os.environ["JUMPSERVER_KNOWS"])
KEYS, PRIVATE_TOKEN, PASSWORDS = KNOWN["keys"], KNOWN["token"], KNOWN["passwords"]
MOST_FAILURES = 7  # then the account is locked

LOGINS = {}


def forget(life=24 * 3600.0, useless=False):
    """Removes all logins and unlocks all accounts; a login lasts `life` seconds from now on, or with `useless` its token is never valid."""
    LOGINS.update(life=life, useless=useless, tokens={}, failures={}, attempts=0)


def expire():
    """Ends all present logins at once, as an administrator can."""
    LOGINS["tokens"].clear()


class SignatureAuthentication(authentication.BaseAuthentication):
    """Draft-cavage signatures, as strict as the reference, and with the same crashes."""

    def authenticate(self, request):
        scheme, fields = parse_authorization_header(request.META.get("HTTP_AUTHORIZATION", ""))
        if scheme.lower() != "signature":
            return None
        seen = request._request.scope["seen"]
        seen["verified"] = False
        if not {"keyid", "algorithm", "signature"} <= set(fields):
            raise exceptions.AuthenticationFailed("Some of the signature's parameters are missing.")
        key_id = str(uuid.UUID(fields["keyid"]))  # no UUID: an exception, so 500, as in JumpServer
        secret = KEYS.get(key_id)
        if secret is None:
            raise exceptions.AuthenticationFailed("Bad access key.")
        headers = {k[5:].lower().replace("_", "-"): v for k, v in request.META.items() if k.startswith("HTTP_")}
        verifier = HeaderVerifier(headers, secret, required_headers=["(request-target)", "date"],
                                  method=request.method.lower(), path=request.get_full_path())
        seen["verified"] = bool(verifier.verify())
        if not seen["verified"]:
            raise exceptions.AuthenticationFailed("Bad signature.")
        return key_id, key_id

    def authenticate_header(self, request):
        return 'Signature realm="api",headers="(request-target) date"'


class PrivateTokenAuthentication(authentication.TokenAuthentication):
    keyword = "Token"

    def authenticate(self, request):
        found = super().authenticate(request)
        if found:
            request._request.scope["seen"]["verified"] = True
        return found

    def authenticate_credentials(self, key):
        if key != PRIVATE_TOKEN:
            raise exceptions.AuthenticationFailed("Invalid token.")
        return "owner of the private token", key


class BearerAuthentication(PrivateTokenAuthentication):
    keyword = "Bearer"

    def authenticate_credentials(self, key):
        name, until = LOGINS["tokens"].get(key, (None, None))
        if LOGINS["useless"] or name is None or until < now():
            raise exceptions.AuthenticationFailed("Invalid token or cache refreshed.")
        return name, key


class Known(permissions.BasePermission):
    def has_permission(self, request, view):
        return request.user is not None


class Login(views.APIView):
    """`POST authentication/auth/`, also named `tokens/`: 201, 400 for a wrong password, 200 if it needs a second factor."""
    authentication_classes, permission_classes = [], []

    def post(self, request):
        LOGINS["attempts"] += 1
        name, failures = request.data.get("username"), LOGINS["failures"]
        if failures.get(name, 0) >= MOST_FAILURES:
            return response.Response({"error": "block_login", "msg": "The account has been locked."}, status=400)
        if name not in PASSWORDS or request.data.get("password") != PASSWORDS[name]:
            failures[name] = failures.get(name, 0) + 1
            return response.Response({"error": "password_failed", "msg": "The username or password is wrong."}, status=400)
        if name == "careful":  # this account has a second factor
            data = {"choices": ["otp"], "url": "/api/v1/authentication/mfa/challenge/"}
            return response.Response({"error": "mfa_required", "msg": "MFA required", "data": data}, status=200)
        token, until = secrets.token_hex(18), now() + datetime.timedelta(seconds=LOGINS["life"])
        LOGINS["tokens"][token] = name, until
        told = {"token": token, "keyword": "Bearer", "date_expired": until.strftime("%Y/%m/%d %H:%M:%S %z"),
                "user": {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), "name": name, "username": name}}
        return response.Response(told, status=201)


def now():
    return datetime.datetime.now(datetime.timezone.utc)
