# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the Docker gate lets through, request by request: method, path, query and body. Pure: no I/O.

There are three roles. `inspect` may ask for containers of runs and stop them, `launch` may also make and start them.
`steps` may do all of that with the containers of the steps of one run (gate_steps.py). Everything that is not named
here is refused. What goes to the engine is written anew from what was understood, so the engine cannot understand
something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode

import gate_container
import gate_steps
from gate_container import MIB, PLATFORM, Refused, Rules
from gate_json import parsed, written

LAUNCH, INSPECT, STEPS = "launch", "inspect", "steps"
ROLES = (LAUNCH, INSPECT)  # of services
EVERY = (*ROLES, STEPS)
MAKERS = (LAUNCH, STEPS)
OLDEST_API, NEWEST_API = 40, 99  # older ones take settings of a container where it is started

# A path is taken as it is written: no encoding, no dots, no second slash.
PATH = re.compile(r"/(?:v1\.(?P<api>[1-9][0-9]{1,2})/)?(?P<rest>[A-Za-z0-9_][A-Za-z0-9_.:/@-]*)")
ID = r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.-]{0,127})"
NUMBER = re.compile(r"[0-9]{1,4}")
BOOLEAN = re.compile(r"0|1|true|false|True|False")
NO = re.compile(r"0|false|False")
SIGNAL = re.compile(r"(SIG)?[A-Z][A-Z0-9]{1,9}|[1-9]|[1-5][0-9]|6[0-4]")
CONDITION = re.compile(r"not-running|next-exit|removed")
ANY = re.compile(r"[ -~]{0,2000}")
LONGEST_LIST = 2 * MIB  # some hundred containers
FEWER = "Ask for fewer containers, with limit or a filter, for example of a label dagster/run_id=ID"
FILTERS = {"label", "status", "id", "exited"}
# What is told of engine and images. The rest of it is about the host and about others.
VERSION = ("ApiVersion", "Arch", "MinAPIVersion", "Os", "Version")
INFO = ("Architecture", "OSType", "ServerVersion")
IMAGE = ("Architecture", "Created", "Id", "Os", "RepoDigests", "RepoTags", "Size")
NETWORK = ("Id", "Name")
# A registry's password need not go to the engine: the gate pulls nothing.
LOGIN = {"Status": "The images of runs are on the engine already, so nobody has to log in", "IdentityToken": ""}


@dataclass(frozen=True)
class Order:
    """What is to be done for a request: ask the engine, once these have been looked at, or answer without it."""

    method: str = "GET"
    path: str = ""  # {container} and {network} stand for the IDs that the engine has told
    query: str = ""
    body: bytes = b""
    container: str = ""  # has to be that of a run
    network: str = ""  # has to be one of runs
    shown: tuple[str, ...] = ()  # what of the answer is handed on; everything when empty
    steps: Mapping[str, Any] | None = None  # the location whose socket has to be there for the run that is made
    ends: bool = False  # what ends a run ends its steps as well
    seconds: int = 60  # for the engine to answer
    most: int = 0  # bytes of an answer that others decide about, and what to do about a longer one
    less: str = ""
    answer: Mapping[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[["Asked", Rules], Order]


@dataclass(frozen=True)
class Asked:
    """A request that fits a route."""

    match: re.Match[str]
    query: Mapping[str, str]
    body: bytes
    prefix: str
    run: gate_steps.Run | None  # that asks in the role of steps


def decide(role: str, method: str, target: str, body: bytes, rules: Rules, run: gate_steps.Run | None = None) -> Order:
    """What is to be done for a request of a role, and in that of steps of a run. Raises Refused."""
    if (role == STEPS) != bool(run):
        raise Refused("a run in another role than that of its steps")
    text, mark, query = target.partition("?")
    path = PATH.fullmatch(text)
    if not path or ".." in text or "//" in text or "/./" in text or (mark and not query):
        raise Refused("a path that is not written plainly")
    if path["api"] and not OLDEST_API <= int(path["api"]) <= NEWEST_API:
        raise Refused(f"version 1.{path['api']} of Docker's API")
    prefix = f"/v1.{path['api']}" if path["api"] else ""
    known = False
    for verb, pattern, roles, allowed, handler in ROUTES:
        match = re.fullmatch(pattern, path["rest"])
        if not match or verb != method:
            continue
        known = True
        if role not in roles:
            continue
        if body and handler not in (create, create_step, connect, login):
            raise Refused("a body where none belongs")
        return handler(Asked(match, parameters(query, allowed), body, prefix, run), rules)
    raise Refused(f"the role {role} may not do this" if known else "nothing that runs need")


def parameters(query: str, allowed: Mapping[str, re.Pattern[str]]) -> dict[str, str]:
    """The parameters of a query. Raises Refused for one that is not known, comes twice or has another value."""
    found: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, written = part.partition("=")
        value = unquote_plus(written, errors="replace")  # what is no UTF-8 fits no pattern
        if name not in allowed or not equals or name in found:
            raise Refused(f"the parameter {name[:40]!r}")
        if not allowed[name].fullmatch(value):
            raise Refused(f"the parameter {name} with the value {value[:40]!r}")
        found[name] = value
    return found


# What each route does


def ping(asked: Asked, _rules: Rules) -> Order:
    """Whether the engine is there."""
    return Order(path=f"{asked.prefix}/_ping")


def version(asked: Asked, _rules: Rules) -> Order:
    """Each client asks first which API the engine has."""
    return Order(path=f"{asked.prefix}/version", shown=VERSION)


def info(asked: Asked, _rules: Rules) -> Order:
    """What an engine says of itself names others' containers and registries."""
    return Order(path=f"{asked.prefix}/info", shown=INFO)


def image(asked: Asked, rules: Rules) -> Order:
    """An image of a location."""
    name = asked.match["name"]
    if name not in rules.images():
        raise Refused(f"the image {name[:100]}, which no location has")
    return Order(path=f"{asked.prefix}/images/{name}/json", shown=IMAGE)


def network(asked: Asked, _rules: Rules) -> Order:
    """The launcher looks at each further network of a run."""
    name = asked.match["id"]
    return Order(path=f"{asked.prefix}/networks/{{network}}", network=name, shown=NETWORK)


def listed(asked: Asked, rules: Rules) -> Order:
    """The containers of runs, and no others."""
    filters = parsed(asked.query["filters"].encode()) if "filters" in asked.query else {}
    for name, values in filters.items():
        if name not in FILTERS or not isinstance(values, list) or not all(isinstance(each, str) for each in values):
            raise Refused(f"the filter {name[:40]!r}")
    filters = {**filters, "label": [*filters.get("label", []), rules.label]}
    query = {**asked.query, "filters": written(filters).decode()}
    return Order(path=f"{asked.prefix}/containers/json", query=urlencode(query), most=LONGEST_LIST, less=FEWER)


def create(asked: Asked, rules: Rules) -> Order:
    """The container of a run."""
    body = gate_container.checked(parsed(asked.body), rules)
    told = body["Labels"].get(gate_container.STEPS)
    steps = json.loads(told) if told else None
    return Order("POST", f"{asked.prefix}/containers/create", urlencode(asked.query), written(body), steps=steps)


def create_step(asked: Asked, rules: Rules) -> Order:
    """The container of a step of the run that asks."""
    if not asked.run:
        raise Refused("a step of no run")
    body = gate_steps.checked(parsed(asked.body), asked.query.get("name", ""), asked.run, rules)
    return Order("POST", f"{asked.prefix}/containers/create", urlencode(asked.query), written(body))


def connect(asked: Asked, _rules: Rules) -> Order:
    """The launcher makes a container in one network and then joins the others."""
    body = parsed(asked.body)
    container = body.get("Container")
    if set(body) - {"Container", "EndpointConfig"} or body.get("EndpointConfig") not in (None, {}):
        raise Refused("settings of its own in a network")
    if not isinstance(container, str) or not re.fullmatch(ID, container):
        raise Refused("no container to join")
    # The server puts the ID in.
    text = written({"Container": "{container}", "EndpointConfig": {}})
    path = f"{asked.prefix}/networks/{{network}}/connect"
    return Order("POST", path, "", text, container=container, network=asked.match["id"])


def login(_asked: Asked, _rules: Rules) -> Order:
    """A launcher with a registry logs in each time. That goes nowhere."""
    return Order(answer=LOGIN)


def action(asked: Asked, _rules: Rules) -> Order:
    """An action on the container of a run, or a look at it."""
    last = asked.match.groupdict().get("action") or ""
    method = {"json": "GET", "": "DELETE"}.get(last, "POST")
    path = f"{asked.prefix}/containers/{{container}}" + (f"/{last}" if last else "")
    seconds = {"stop": 60 + int(asked.query.get("t") or 600), "wait": 3600}.get(last, 60)
    ends = last == "stop" and not asked.run
    return Order(method, path, urlencode(asked.query), container=asked.match["id"], seconds=seconds, ends=ends)


Route = tuple[str, str, tuple[str, ...], dict[str, re.Pattern[str]], Handler]
ROUTES: tuple[Route, ...] = (
    ("GET", "_ping", EVERY, {}, ping),
    ("HEAD", "_ping", EVERY, {}, ping),
    ("GET", "version", EVERY, {}, version),
    ("GET", "info", ROLES, {}, info),
    ("GET", "images/(?P<name>[a-z0-9][a-z0-9_.:/@-]{0,254})/json", ROLES, {}, image),
    (
        "GET",
        "containers/json",
        ROLES,
        {
            **dict.fromkeys(("all", "trunc_cmd"), BOOLEAN),
            "size": NO,  # the engine would read the files of each container
            "limit": re.compile("-1|[0-9]{1,4}"),
            "filters": ANY,
        },
        listed,
    ),
    ("GET", f"containers/{ID}/(?P<action>json)", EVERY, {}, action),
    ("POST", f"containers/{ID}/(?P<action>stop)", EVERY, {"t": NUMBER}, action),
    ("POST", f"containers/{ID}/(?P<action>wait)", EVERY, {"condition": CONDITION}, action),
    ("POST", f"containers/{ID}/(?P<action>kill)", MAKERS, {"signal": SIGNAL}, action),
    ("POST", f"containers/{ID}/(?P<action>start)", MAKERS, {}, action),
    (
        "DELETE",
        f"containers/{ID}",
        MAKERS,
        {"force": BOOLEAN, "v": NO, "link": NO},
        action,
    ),
    ("POST", "containers/create", (LAUNCH,), {"platform": PLATFORM}, create),
    ("POST", "containers/create", (STEPS,), {"platform": PLATFORM, "name": gate_steps.NAME}, create_step),
    ("GET", f"networks/{ID}", MAKERS, {}, network),
    ("POST", f"networks/{ID}/connect", MAKERS, {}, connect),
    ("POST", "auth", EVERY, {}, login),
)


# What the engine has told, judged


Found = Mapping[str, Any]


def container_id(found: Found, rules: Rules, run: gate_steps.Run | None = None, _made: Found | None = None) -> str:
    """The whole ID of a container. Raises Refused for one that is none of a run, or of a step of the run that asks."""
    if run:
        gate_steps.belongs(found, run)
        return _whole(found)
    labels = (found.get("Config") or {}).get("Labels") or {}
    if rules.label not in labels or gate_container.RUN_ID not in labels:
        raise Refused("a container that is none of a run")
    return _whole(found)


def network_id(found: Found, rules: Rules, _run: gate_steps.Run | None = None, made: Found | None = None) -> str:
    """The whole ID of a network. Raises Refused for one in which no run may be, or not the container that joins it."""
    name = found.get("Name")
    if name not in rules.networks():
        raise Refused(f"the network {str(name)[:80]}, in which no run may be")
    if made is not None and name not in gate_container.joined_by(made):
        raise Refused(f"the network {str(name)[:80]}, in which no run of its location may be")
    return _whole(found)


def _whole(found: Mapping[str, Any]) -> str:
    number = str(found.get("Id"))
    if not re.fullmatch("[0-9a-f]{64}|[a-z0-9]{25}", number):
        raise Refused("something of which the engine tells no ID")
    return number


def shown(answer: bytes, keys: tuple[str, ...]) -> bytes:
    """An answer of the engine without what concerns nobody but the engine's administrator."""
    if not keys:
        return answer
    found = json.loads(answer)
    return written({key: found[key] for key in keys if key in found})
