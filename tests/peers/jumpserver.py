"""A stand-in for a JumpServer core, small enough to read in one go.

Established libraries decide whether a call is valid: uvicorn parses HTTP, Django applies the path and query
rules, Django REST framework handles paging and bodies, and pyhttpsig, the library that JumpServer itself uses,
checks the signature. Only the small data model around them is our own.

    uvicorn jumpserver:application --port N --timeout-keep-alive 2 --no-proxy-headers --lifespan off

`/_reset/?users=N&life=S` deletes everything, creates N users in the default organisation, and sets the lifetime of
logins to S seconds (with `&useless`, logins succeed and their tokens are not valid).
`/_expire/` ends all logins; `/_seen/` lists every request since the reset, `/_logins/` counts the login attempts.
"""
import hashlib
import uuid

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    APPEND_SLASH=True,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
    DEFAULT_CHARSET="utf-8",
    INSTALLED_APPS=["rest_framework"],
    LOGGING_CONFIG=None,
    MIDDLEWARE=["jumpserver.set_cookies", "django.middleware.common.CommonMiddleware", "jumpserver.find_org"],
    ROOT_URLCONF="jumpserver",
    SECRET_KEY="a stand-in signs nothing",
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
    USE_TZ=True,
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": [f"rest_framework.parsers.{name}Parser" for name in ("JSON", "Form", "MultiPart", "FileUpload")],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402  (Django requires its settings first)
from django.http import HttpResponseRedirect, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path, re_path  # noqa: E402
from rest_framework import exceptions, pagination, response, views  # noqa: E402

import jumpserver_auth as auth  # noqa: E402

ROOT, DEFAULT, SYSTEM = (f"00000000-0000-0000-0000-{n:012}" for n in (0, 2, 4))
BRANCH, VAULT = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
ORGS = {ROOT: "GLOBAL", DEFAULT: "DEFAULT", SYSTEM: "SYSTEM", BRANCH: "branch", VAULT: "vault"}
WORDS = {"root": ROOT, "default": DEFAULT, "system": SYSTEM, **{name: org for org, name in ORGS.items()}}

CSV_ROWS = b"".join(b"00000000-0000-4000-8000-%012d,user%07d,%s,user%07d@example.com\n" % (n, n, "张三".encode(), n) for n in range(1000))

SEEN = []
USERS = []
GROUPS = []


def reset(users=0):
    SEEN.clear()
    USERS[:] = [make_user({"username": f"user{n:03}", "name": f"User {n}"}, DEFAULT) for n in range(users)]
    GROUPS[:] = [{"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), "name": name, "org_id": DEFAULT} for name in ("ops", "审计")]


def make_user(fields, org):
    user = {"id": str(uuid.uuid4()), "name": "", "email": "", "groups": [], "org_id": org}
    return {**user, **{k: v for k, v in fields.items() if k in ("username", "name", "email", "groups")}}


# ---- for which organisation

def find_org(get_response):
    """The order is `?oid=`, the header, the cookie; an unknown organisation silently becomes the default one."""
    def middleware(request):
        asked = request.GET.get("oid") or request.META.get("HTTP_X_JMS_ORG") or request.COOKIES.get("X-JMS-ORG") or DEFAULT
        request.org = WORDS.get(asked, asked)
        if request.org not in ORGS:
            request.org = DEFAULT
        request.scope["seen"].update(org=request.org, full_path=request.get_full_path())
        return get_response(request)
    return middleware


def set_cookies(get_response):
    def middleware(request):
        answer = get_response(request)
        answer.set_cookie("jms_public_key", "stand-in-cookie")
        answer.set_cookie("X-JMS-ORG", getattr(request, "org", DEFAULT))
        return answer
    return middleware


# ---- the resources

class Pages(pagination.LimitOffsetPagination):
    default_limit = None  # without ?limit= a bare list
    max_limit = 1000


class Resource(views.APIView):
    authentication_classes = [auth.SignatureAuthentication, auth.BearerAuthentication, auth.PrivateTokenAuthentication]
    permission_classes = [auth.Known]


class Collection(Resource):
    """List, create and bulk delete for one of the lists above; only known filters have an effect."""
    rows, required, filters = None, "name", ("id", "name")

    def mine(self, request):
        known = {k: v for k, v in request.GET.items() if k in self.filters and v}
        return [row for row in self.rows if row["org_id"] == request.org and all(str(row.get(k)) == v for k, v in known.items())]

    def get(self, request):
        rows, pages = self.mine(request), Pages()
        page = pages.paginate_queryset(rows, request, view=self)
        return response.Response(rows[:200]) if page is None else pages.get_paginated_response(page)

    def post(self, request):
        if not request.data.get(self.required):
            raise exceptions.ValidationError({self.required: ["This field is required."]})
        row = self.make(request.data, request.org)
        self.rows.append(row)
        return response.Response(row, status=201)

    def delete(self, request):
        gone = [row["id"] for row in self.mine(request)]
        self.rows[:] = [row for row in self.rows if row["id"] not in gone]
        return response.Response(status=204)


class Users(Collection):
    rows, required, filters = USERS, "username", ("id", "username", "name", "email")
    make = staticmethod(make_user)


class Groups(Collection):
    rows = GROUPS
    make = staticmethod(lambda fields, org: {"id": str(uuid.uuid4()), "name": fields["name"], "org_id": org})


class User(Resource):
    def find(self, request, pk):
        for row in USERS:
            if row["id"] == str(pk) and row["org_id"] == request.org:
                return row
        raise exceptions.NotFound

    def get(self, request, pk):
        return response.Response(self.find(request, pk))

    def put(self, request, pk):
        row = self.find(request, pk)
        row.update({k: v for k, v in request.data.items() if k in ("username", "name", "email", "groups")})
        return response.Response(row)

    patch = put

    def delete(self, request, pk):
        USERS.remove(self.find(request, pk))
        return response.Response(status=204)


class CurrentOrg(Resource):
    def get(self, request):
        org = request.org
        return response.Response({"id": org, "name": ORGS[org], "is_default": org == DEFAULT, "is_root": org == ROOT})


class Echo(Resource):
    """Answers with the received request, and the body as the application got it: a chunked one is empty here."""
    def answer(self, request, anything=""):
        body = request._request.body if request.META.get("CONTENT_LENGTH") else b""
        told = {**request._request.scope["seen"], "body_length": len(body), "body_sha256": hashlib.sha256(body).hexdigest()}
        return response.Response(told)

    get = post = put = patch = delete = options = answer


class Upload(Resource):
    """Counts and hashes a body piece by piece, as the application gets it; without a `Content-Length` it gets none."""
    def put(self, request):
        digest, length = hashlib.sha256(), 0
        while request.META.get("CONTENT_LENGTH") and (piece := request._request.read(1 << 16)):
            digest.update(piece)
            length += len(piece)
        return response.Response({"length": length, "sha256": digest.hexdigest()}, status=201)

    post = put


class Export(Resource):
    """`?bytes=N`: N bytes of CSV, streamed; with `&announced=1` the answer has a `Content-Length`."""
    def get(self, request):
        total = int(request.GET["bytes"])

        async def rows():
            for start in range(0, total, len(CSV_ROWS)):
                yield CSV_ROWS[:total - start]

        answer = StreamingHttpResponse(rows(), content_type="text/csv")
        answer["Content-Disposition"] = 'attachment; filename="users.csv"'
        if "announced" in request.GET:
            answer["Content-Length"] = str(total)
        return answer


class Redirect(Resource):
    def get(self, request):
        return HttpResponseRedirect(request.build_absolute_uri("/api/v1/users/users/"))


# ---- for the tests only

def seen_view(request):
    return JsonResponse(SEEN, safe=False)


def reset_view(request):
    reset(int(request.GET.get("users", 0)))
    auth.forget(float(request.GET.get("life", 24 * 3600)), "useless" in request.GET)
    return JsonResponse({"users": len(USERS)})


def expire_view(request):
    auth.expire()
    return JsonResponse({})


def logins_view(request):
    return JsonResponse({"logins": auth.LOGINS["attempts"]})


urlpatterns = [
    path("_seen/", seen_view),
    path("_reset/", reset_view),
    path("_expire/", expire_view),
    path("_logins/", logins_view),
    path("api/health/", lambda request: JsonResponse({"status": 1})),
    path("api/v1/users/users/", Users.as_view()),
    path("api/v1/users/users/<uuid:pk>/", User.as_view()),
    path("api/v1/users/groups/", Groups.as_view()),
    path("api/v1/authentication/auth/", auth.Login.as_view()),
    path("api/v1/authentication/tokens/", auth.Login.as_view()),
    path("api/v1/orgs/orgs/current/", CurrentOrg.as_view()),
    path("api/v1/audits/export/", Export.as_view()),
    path("api/v1/upload/", Upload.as_view()),
    path("api/v1/redirect/", Redirect.as_view()),
    re_path(r"^(?:api/v1/echo|u)/(?P<anything>(?s:.*))\Z", Echo.as_view()),
]
reset()
auth.forget()
app = get_asgi_application()


async def application(scope, receive, send):
    """Records each request as uvicorn parsed it, before Django touches it."""
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    seen = {
        "method": scope["method"], "target": target.decode("latin1"), "peer_port": scope["client"][1],
        "headers": [[name.decode("latin1"), value.decode("latin1")] for name, value in scope["headers"]],
        "wire_length": 0, "wire_sha256": "", "verified": None, "org": None, "full_path": None, "status": None,
    }
    if not scope["path"].startswith("/_"):
        SEEN.append(seen)
    digest = hashlib.sha256()

    async def counted_receive():
        message = await receive()
        if message["type"] == "http.request":
            seen["wire_length"] += len(message.get("body", b""))
            digest.update(message.get("body", b""))
            seen["wire_sha256"] = digest.hexdigest()
        return message

    async def noted_send(message):
        if message["type"] == "http.response.start":
            seen["status"] = message["status"]
        await send(message)

    await app({**scope, "seen": seen}, counted_receive, noted_send)
