# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From where each login of the database connects, and how: the rules and the settings of role postgres.

Addresses of loopback stand for hosts. Each attack has its control: without the rule it works.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from fence_rig import PYTHON, Site
from guard_postgres import Cluster
from guard_rig import ROOT, USER, Proxy, until
from logins_rig import CODE, DAEMON, DATABASE, LOGINS, MIGRATION, READ, RUN, WEB, attempt, made, through

from ansible_collections.dataops.dagster.plugins.module_utils._database import postgres
from ansible_collections.dataops.dagster.plugins.module_utils._database.client import Client


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Iterator[Site]:
    with made(cluster) as found:
        yield found


@pytest.fixture
def rules(site: Site, request: pytest.FixtureRequest) -> Iterator[dict[str, Proxy]]:
    """The rules of the role, with or without TLS (the parameter). The way in by the kind of host."""
    tls = bool(getattr(request, "param", False))
    sources = {"db": "127.0.0.1", "web": "127.0.0.2", "ctl": "127.0.0.3", "code": "127.0.0.4", "run": "127.0.0.5"}
    allowed = {"web": [WEB, READ, MIGRATION], "ctl": [WEB, MIGRATION, DAEMON], "code": [CODE], "run": [RUN]}
    template = (ROOT / "roles/postgres/templates/etc/postgresql/pg_hba.conf.j2").read_text(encoding="utf-8")
    clients = [{"address": f"{sources[name]}/32", "users": users, "tls": tls} for name, users in allowed.items()]
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    text = environment.from_string(template).render(
        dagster={"database_name": DATABASE, "postgres_clients": clients},
        dagster_plan={"postgres": {"local": [MIGRATION]}},
        __dagster_postgres_open=[],
    )
    path = site.cluster.folder / "data/pg_hba.conf"
    before = path.read_text()
    path.write_text(f"local all postgres trust\n{text}")
    site.cluster.query("SELECT pg_reload_conf()", "postgres")
    until(lambda: "no pg_hba.conf entry" in attempt(site, WEB, "SELECT 1"), 10, "the rules are read")
    ways = {name: Proxy(site.cluster.port, source) for name, source in sources.items()}
    yield ways
    for way in ways.values():
        way.close()
    path.write_text(before)
    site.cluster.query("SELECT pg_reload_conf()", "postgres")
    until(lambda: attempt(site, WEB, "SELECT 1") == "", 10, "the rules are those of the rig")


def test_source_and_login(rules: dict[str, Proxy]) -> None:
    """Exactly the pairs that the deployment has, and only into its database."""
    found = {(name, login) for name, way in rules.items() for login in (*LOGINS, MIGRATION) if not through(way, login)}
    assert found == {
        ("db", MIGRATION),
        *(("web", login) for login in (WEB, READ, MIGRATION)),
        *(("ctl", login) for login in (WEB, MIGRATION, DAEMON)),
        ("code", CODE),
        ("run", RUN),
    }
    for name, login in sorted(found):
        for other in ("postgres", "template1", "dagster"):
            assert "no pg_hba.conf entry" in through(rules[name], login, other), (login, other)
        assert "password authentication failed" in through(rules[name], login, password="another")


def test_control_without_the_rules(site: Site) -> None:
    """Each login gets into another database by the way of any other: PUBLIC may connect to the server's own."""
    way = Proxy(site.cluster.port, "127.0.0.1")
    try:
        assert {through(way, login, "postgres") for login in (*LOGINS, MIGRATION)} == {""}
    finally:
        way.close()


# In plain text


@pytest.fixture
def authority(site: Site) -> Iterator[Path]:
    """The settings of the role, with a certificate for 127.0.0.1 of an authority, and another authority beside it."""
    folder = site.cluster.folder / "tls"
    folder.mkdir()
    for name in ("ca", "other"):
        openssl(
            folder,
            "req",
            "-x509",
            "-nodes",
            "-keyout",
            f"{name}-key.pem",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
            *NEW,
        )
    openssl(folder, "req", "-nodes", "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=127.0.0.1", *NEW[:2])
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "names", "-out", "cert.pem")
    openssl(folder, "x509", "-req", "-in", "request.pem", *signed)
    if USER:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, USER["user"])
    (folder / "key.pem").chmod(0o400)
    template = ROOT / "roles/postgres/templates/etc/postgresql/conf.d/dagster-tls.conf.j2"
    text = jinja2.Template(template.read_text(encoding="utf-8"), autoescape=False).render(
        dagster_plan={"postgres": {"tls_folder": str(folder)}}
    )
    settings = site.cluster.folder / "data/postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text(before + text)
    site.cluster.query("SELECT pg_reload_conf()", "postgres")
    until(lambda: site.cluster.query("SHOW ssl", "postgres") == [("on",)], 10, "TLS is on, without a restart")
    yield folder
    settings.write_text(before)
    site.cluster.query("SELECT pg_reload_conf()", "postgres")
    until(lambda: site.cluster.query("SHOW ssl", "postgres") == [("off",)], 10, "TLS is off again")
    shutil.rmtree(folder)


NEW = ("-newkey", "rsa:2048", "-days", "2")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("rules", [True], indirect=True)
def test_plain_text_from_another_host(authority: Path, rules: dict[str, Proxy]) -> None:
    pairs = [("web", WEB), ("web", READ), ("web", MIGRATION), ("ctl", DAEMON), ("code", CODE), ("run", RUN)]
    for name, login in pairs:
        assert "no encryption" in through(rules[name], login, sslmode="disable"), login
        # The client knows the server by its authority: nobody else can be the server, and listen.
        good = {"sslmode": "verify-full", "sslrootcert": str(authority / "ca.pem")}
        assert through(rules[name], login, **good) == "", login
        other = {**good, "sslrootcert": str(authority / "other.pem")}
        assert "certificate verify failed" in through(rules[name], login, **other), login
        named = {**good, "host": "localhost", "hostaddr": "127.0.0.1"}
        assert "does not match host name" in through(rules[name], login, **named), login
        # A run that an earlier release has started says nothing of TLS, and goes on.
        assert through(rules[name], login) == "", login
    assert through(rules["db"], MIGRATION, sslmode="disable") == "", "on the host itself"


@pytest.mark.parametrize("rules", [False], indirect=True)
@pytest.mark.usefixtures("authority")
def test_control_plain_text_is_let_in_without_the_rule(rules: dict[str, Proxy]) -> None:
    """dagster_database_tls: false."""
    assert through(rules["run"], RUN, sslmode="disable") == ""


@pytest.mark.parametrize("rules", [True], indirect=True)
def test_dagster_verifies_the_server(site: Site, authority: Path, rules: dict[str, Proxy]) -> None:
    """By the variables that the plan gives to services and containers alike."""
    program = "from dagster import DagsterInstance; print('runs', DagsterInstance.get().get_runs_count())"

    def asked(name: str) -> subprocess.CompletedProcess[str]:
        config = (site.folder / "dagster.yaml").read_text()
        home = site.folder / f"of-{name}"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text(config.replace(f"port: {site.cluster.port}", f"port: {rules['run'].port}"))
        client = Client("127.0.0.1", rules["run"].port, DATABASE, RUN, "", True, str(authority / f"{name}.pem"))
        more = {**postgres.environment(client), "DAGSTER_HOME": str(home)}
        environment = {**site.environment(RUN), **more}
        return subprocess.run(
            [PYTHON, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    assert "runs " in asked("ca").stdout
    assert "certificate verify failed" in asked("other").stderr
