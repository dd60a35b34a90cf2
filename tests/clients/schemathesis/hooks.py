"""What schemathesis has to know about this server: who one is for each dialect, and which requests
would keep it waiting or take the ground from under the others."""

import functools
import os
import threading
import urllib.parse
import uuid

import requests
import schemathesis
from akamai.edgegrid import EdgeGridAuth, EdgeRc

URL = os.environ["KVASIR_URL"]
PASSWORD = "correct horse battery"
lock = threading.Lock()


class Session:
    """A session of the accounts dialect, renewed when a request of another test ended it."""

    def __init__(self):
        self.token, self.uses = None, 0

    def get(self):
        with lock:
            self.uses += 1
            if self.token is None or self.uses % 25 == 0 and not self.is_good():
                self.token = self.begin()
            return self.token

    def is_good(self):
        return requests.get(f"{URL}/profile", headers=bearer(self.token), timeout=5).status_code == 200

    @staticmethod
    def begin():
        email = f"{uuid.uuid4()}@example.com"
        user = {"email": email, "password": PASSWORD, "role": "admin"}
        made = requests.post(f"{URL}/_/api/v1/users", json=user, headers=bearer(process_token()), timeout=10)
        made.raise_for_status()
        login = requests.post(f"{URL}/login", json={"email": email, "password": PASSWORD}, timeout=10)
        login.raise_for_status()
        return login.json()["token"]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def process_token():
    return os.environ["KVASIR_TOKEN"]


@functools.cache
def edgegrid():
    return EdgeGridAuth.from_edgerc(EdgeRc(os.environ["KVASIR_EDGERC"]), "default")


session, passing = Session(), Session()

# These end the session they are made with, so they get one of their own.
ENDING = {"post_logout", "delete_profile", "post_profile_password"}


@schemathesis.hook
def before_call(context, case, kwargs):
    raw = case.operation.definition.raw
    proofs = [name for one in raw.get("security") or [] for name in one]
    headers = case.headers if case.headers is not None else {}
    for name in [name for name in headers if name.lower() == "authorization"]:
        del headers[name]
    if "edgegrid" in proofs:
        kwargs["auth"] = edgegrid()
    elif "session" in proofs:
        mine = passing if raw.get("operationId") in ENDING else session
        headers["Authorization"] = f"Bearer {mine.get()}"
        if mine is passing:
            passing.token = None
    elif "oidc" in proofs:
        headers["Authorization"] = f"Bearer {os.environ['KVASIR_OIDC_TOKEN']}"
    elif "token" in proofs:
        headers["Authorization"] = f"Bearer {process_token()}"
    # Streams answer for as long as somebody listens.
    for name in [name for name in headers if name.lower() == "accept" and "event-stream" in str(headers[name])]:
        del headers[name]
    case.headers = headers


@schemathesis.hook
def map_query(context, query):
    if not isinstance(query, dict):
        return query
    kept = dict(query)
    # A stream; and emptying the database would end all sessions.
    for name in ("watch", "all"):
        kept.pop(name, None)
    return kept


@schemathesis.hook
def map_body(context, body):
    # The longest wait of a pull is half a minute.
    if isinstance(body, dict) and isinstance(body.get("waitMs"), int):
        return {**body, "waitMs": min(body["waitMs"], 20)}
    return body


@schemathesis.serializer("application/x-protobuf")
def protobuf(ctx, value):
    return str(value).encode("utf-8", "surrogatepass")
