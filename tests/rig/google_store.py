"""Google Cloud Storage of the tests: gcp-storage-emulator, behind the login that the real one has.

    python google_store.py HOST PORT BUCKET ACCOUNTS

ACCOUNTS is a JSON file: the mail of each service account, with the ID of its key and what it may do (read, write,
delete). A client asks for a token with its key, as at oauth2.googleapis.com, and shows it with each request.
"""

from __future__ import annotations

import base64
import json
import sys
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlparse

from gcp_storage_emulator import server

ACCOUNTS: dict[str, dict[str, Any]] = {}
MAY = {"GET": "read", "POST": "write", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def account(handler: Any) -> str:
    """Whose token or signed URL it is."""
    query = parse_qs(urlparse(handler.path).query)
    return (query.get("GoogleAccessId") or [handler.headers.get("Authorization", "").removeprefix("Bearer ")])[0]


class Guarded(server.Router):
    """What the emulator asks for each request."""

    def handle(self, method: str) -> None:
        handler = self._request_handler
        if urlparse(handler.path).path == "/token":
            self.token()
        elif (who := account(handler)) not in ACCOUNTS:
            self.say(HTTPStatus.UNAUTHORIZED, {"error": {"code": 401, "message": "Invalid Credentials"}})
        elif MAY[method] not in ACCOUNTS[who]["may"]:
            words = f"{who} does not have storage.objects.{MAY[method]} access to the Google Cloud Storage bucket."
            self.say(HTTPStatus.FORBIDDEN, {"error": {"code": 403, "message": words}})
        else:
            super().handle(method)

    def token(self) -> None:
        """Give a token to a key that is known: here the mail is the token."""
        handler = self._request_handler
        form = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        head, claims, _signature = form["assertion"][0].split(".")
        mail = decoded(claims)["iss"]
        if ACCOUNTS.get(mail, {}).get("key") != decoded(head)["kid"]:
            self.say(HTTPStatus.BAD_REQUEST, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        else:
            self.say(HTTPStatus.OK, {"access_token": mail, "expires_in": 3600, "token_type": "Bearer"})

    def say(self, status: HTTPStatus, answer: dict[str, Any]) -> None:
        handler = self._request_handler
        if handler.headers.get("Content-Length") and urlparse(handler.path).path != "/token":
            handler.rfile.read(int(handler.headers["Content-Length"]))
        text = json.dumps(answer).encode()
        handler.send_response(status.value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)


def main(host: str, port: str, bucket: str, accounts: str) -> None:
    with open(accounts, encoding="utf-8") as stream:
        ACCOUNTS.update(json.load(stream))
    server.Router = Guarded
    server.Server(host, int(port), in_memory=True, default_bucket=bucket).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
