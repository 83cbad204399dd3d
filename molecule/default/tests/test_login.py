"""A login that a user puts in front of the UI: the health gate needs no account, and still notices a dead nginx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from deployment import Dagster, Play, until

FILE = "/etc/nginx/dagster.d/login.conf"
# A bare host has no program for HTTP.
ASKED = """
import http.client
connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=10)
connection.request("GET", "/graphql")
print(connection.getresponse().status)
"""
LOGINS = {
    401: "auth_basic Dagster; auth_basic_user_file /etc/nginx/dagster.users;",
    403: "allow 192.0.2.1; deny all;",
    302: "return 302 https://login.example.com/;",
}


@pytest.mark.parametrize("status", [401, *(pytest.param(status, marks=pytest.mark.long) for status in (403, 302))])
def test_login_is_not_in_the_way_of_the_health_gate(
    play: Callable[..., Play], dagster: Dagster, host: Any, status: int
) -> None:
    host.check_output("printf 'user:{PLAIN}secret\\n' > /etc/nginx/dagster.users")
    host.check_output("printf '%%s\\n' %s > %s && nginx -t && systemctl reload nginx", LOGINS[status], FILE)
    try:
        until(
            lambda: host.check_output("python3 -c %s", ASKED) == str(status), 20, "the control: nginx asks for a login"
        )
        assert play("health.yml").rc == 0, "with its canary run"
        if status == 401:
            play("site.yml")
            assert host.file(FILE).exists
            host.check_output("systemctl stop nginx")
            said = " ".join(play("health.yml", ok=False).output.split())
            assert "The deployment is not healthy: The deployment cannot be asked: no answer from" in said
    finally:
        host.check_output("rm -f %s /etc/nginx/dagster.users; systemctl start nginx; systemctl reload nginx", FILE)
    until(lambda: dagster.get("/server_info")[0] == 200, 20, "nobody asks for a login any more")
