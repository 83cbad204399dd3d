"""What every role promises: its spec, its defaults and its README say the same, and its tasks keep the house rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import load_program

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TASK_FILES = sorted(path.relative_to(ROOT) for path in ROOT.glob("roles/*/tasks/**/*.yml"))
PLAY_FILES = sorted(path.relative_to(ROOT) for path in ROOT.glob("playbooks/**/*.yml"))
VARIABLE_FILES = sorted(path.relative_to(ROOT) for path in ROOT.glob("roles/*/vars/*.yml"))
NOTHING = object()


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def entries(role: str) -> dict[str, dict[str, Any]]:
    """The entry points of a role, each with its options: what users set of main, parameters of the others."""
    found = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]
    return {entry: of_entry["options"] for entry, of_entry in found.items()}


def spec(role: str) -> dict[str, Any]:
    return {name: option for options in entries(role).values() for name, option in options.items()}


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults/main.yml") or {}


docs = load_program(ROOT / "tools" / "docs.py", "docs_program")


# Of a group of hosts; the others are called by these, and are given all that they need.
OF_GROUPS = [role for role in ROLES if "main" in entries(role)]
HINT = "this role needs the plan of the deployment: import dataops.dagster.preflight in the play before"


@pytest.mark.parametrize("role", ROLES)
def test_spec_and_defaults_are_alike(role: str) -> None:
    """Roles of groups read their options as dagster.NAME. So only what is in no fact has a default of its own there."""
    options, values = spec(role), defaults(role)
    if role in OF_GROUPS:
        planned = f"{{{{ undef(hint='{HINT}') }}}}"
        assert (values.pop("dagster"), values.pop("dagster_plan")) == (planned, planned)
        options = {name: option for name, option in options.items() if option.get("no_log")}
    assert sorted(values.keys() - options.keys()) == [], "defaults of variables that the spec does not have"
    for name, option in options.items():
        value = values.get(name, NOTHING)
        if option.get("required"):
            assert value is NOTHING, f"{name} is required, so it has no default"
            assert "default" not in option, name
        elif "default" in option:
            assert value is not NOTHING, f"{name} has a default in the spec alone"
            assert (type(value), value) == (type(option["default"]), option["default"]), name
            assert "{{" not in str(value), f"{name}: an expression cannot be checked against the spec"
        else:
            assert value is NOTHING, f"{name} has a default in defaults/main.yml alone: {value!r}"


# Another text would restart keepalived, or set all kernel parameters again, at an upgrade from 0.1.0.
AS_BEFORE = {
    *("vip/templates/etc/keepalived/keepalived.conf.j2", "proxy/templates/etc/sysctl.d/60-dagster-nginx.conf.j2"),
    "vip/templates/etc/systemd/system/keepalived.service.d/10-dagster.conf.j2",
}


def test_a_file_says_which_role_manages_it() -> None:
    found = {}
    for path in sorted((ROOT / "roles").glob("*/templates/**/*.j2")):
        name = str(path.relative_to(ROOT / "roles"))
        text = path.read_text(encoding="utf-8")
        said = re.search(r"^# Managed by dataops.dagster \(role (\w+)\)", text, re.MULTILINE)
        if said:
            found[name] = (said[1], "nginx" if name in AS_BEFORE else name.partition("/")[0])
    assert found.keys() >= AS_BEFORE
    assert {name: roles for name, roles in found.items() if roles[0] != roles[1]} == {}


def test_the_plan_is_no_option() -> None:
    assert not [role for role in ROLES if spec(role).keys() & {"dagster", "dagster_plan", "dagster_host"}]


def test_a_variable_is_the_same_in_every_role() -> None:
    seen: dict[str, tuple[str, Any]] = {}
    for role in ROLES:
        for entry, options in entries(role).items():
            for name, option in options.items():
                other, known = seen.setdefault(name, (f"{role} {entry}", option))
                assert option == known, f"{name} differs between {other} and {role} {entry}"


@pytest.mark.parametrize("role", ROLES)
def test_names_of_variables(role: str) -> None:
    """What the user sets begins with dagster_, what is ours with __dagster_."""
    assert [name for name in spec(role) if not name.startswith("dagster_")] == []
    path = ROOT / "roles" / role / "vars/main.yml"
    private = load(path) if path.exists() else {}
    assert [name for name in private if not name.startswith("__dagster_")] == []


def test_readme_of_the_playbooks() -> None:
    text, wanted = docs.rendered(ROOT, "playbooks", docs.PLAYBOOKS)
    assert text == wanted, "run `make docs`"
    assert "| `dagster_health_wait` | int |" in text
    playbooks = {path.name for path in (ROOT / "playbooks").glob("*.yml") if not path.name.startswith("part_")}
    assert set(re.findall(r"^\| `(\w+\.yml)`", text, re.M)) == playbooks - {"argument_specs.yml"}


@pytest.mark.parametrize("role", ROLES)
def test_readme(role: str) -> None:
    text, wanted = docs.rendered(ROOT, f"roles/{role}", role)
    assert text == wanted, "run `make docs`"
    head = text.split(docs.BEGIN)[0]
    assert text.startswith(f"# {role}\n")
    assert f"{'role' if role in OF_GROUPS else 'name'}: dataops.dagster.{role}" in head, "an example play"
    unknown = set(re.findall(r"\bdagster_[a-z_]+", head)) - KNOWN_NAMES
    assert unknown == set(), "names that neither a spec nor an inventory has"


KNOWN_NAMES = {name for role in ROLES for name in spec(role)} | {
    f"dagster_{group}" for group in ("database", "webserver", "daemon", "code", "run", "proxy")
}
KNOWN_NAMES |= set(load(ROOT / "playbooks/argument_specs.yml")["argument_specs"]["main"]["options"])
KNOWN_NAMES.add("dagster_host")  # what a play without preflight has to read for role certificates
# Logins and the like have such names too.
KNOWN_NAMES |= {str(option.get("default")) for role in ROLES for option in spec(role).values()}


@pytest.mark.parametrize("role", ROLES)
def test_table_of_contents(role: str) -> None:
    """tasks/main.yml, or that of each entry point, shows at one glance what a role does."""
    for entry in entries(role):
        lines = (ROOT / "roles" / role / f"tasks/{entry}.yml").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 30


def test_a_call_of_a_role_gives_what_its_entry_point_takes() -> None:
    """Its arguments are validated by Ansible too, but not names that the spec lacks."""
    calls = 0
    for path in TASK_FILES:
        for task in filter(lambda task: "ansible.builtin.import_role" in task, tasks(load(ROOT / path))):
            called = task["ansible.builtin.import_role"]
            options = entries(called["name"].removeprefix("dataops.dagster."))[called["tasks_from"]]
            required = {name for name, option in options.items() if option.get("required")}
            assert required <= task["vars"].keys() <= options.keys(), path
            calls += 1
    assert calls == 10


@pytest.mark.parametrize("path", TASK_FILES, ids=str)
def test_length_of_a_task_file(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) < 150


def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All tasks of a file, those in blocks and plays too."""
    for entry in entries:
        yield entry
        for key in ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers"):
            yield from tasks(entry.get(key) or [])


# What these filters give has another order in each process.
WITHOUT_ORDER = re.compile(r"\b(?:difference|intersect|symmetric_difference|union)\(")


@pytest.mark.parametrize("path", [*TASK_FILES, *PLAY_FILES, *VARIABLE_FILES], ids=str)
def test_names_in_a_text_have_an_order(path: Path) -> None:
    for expression in re.findall(r"{{.*?}}", (ROOT / path).read_text(encoding="utf-8"), re.DOTALL):
        for found in WITHOUT_ORDER.finditer(expression):
            joined = expression.find("join(", found.end())
            assert joined < 0 or "| sort" in expression[found.end() : joined], expression


@pytest.mark.parametrize("path", [*TASK_FILES, *PLAY_FILES], ids=str)
def test_no_task_hides_a_failure_or_needs_a_shell(path: Path) -> None:
    content = load(ROOT / path)
    if not isinstance(content, list):  # playbooks/argument_specs.yml
        return
    for task in tasks(content):
        if task.keys() >= {"ignore_errors", "ignore_unreachable", "register", "delegate_to"}:
            continue  # a host that does not answer is an answer, and is judged
        if "ignore_unreachable" in task and f"{task['register']} is unreachable" in str(content):
            task = {**task}
            del task["ignore_unreachable"]  # that is told in our words
        refused = {
            "ignore_errors",
            "ignore_unreachable",
            "shell",
            "ansible.builtin.shell",
            "raw",
            "ansible.builtin.raw",
        }
        assert not refused & task.keys(), task.get("name")


# The program that writes the READMEs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A collection with one role."""
    files = {
        "meta/argument_specs.yml": {
            "argument_specs": {
                "main": {
                    "options": {
                        "dagster_a": {
                            "type": "str",
                            "required": True,
                            "description": ["One (O(dagster_b)).", "Two | three."],
                        },
                        "dagster_b": {
                            "type": "list",
                            "elements": "dict",
                            "default": [],
                            "description": "List.",
                            "options": {
                                "x": {"type": "dict", "description": "X.", "options": {"y": {"description": "Y."}}},
                                "z": {"type": "int", "required": True, "description": "Z.", "choices": [1, 2]},
                            },
                        },
                        "dagster_c": {"type": "str", "default": "", "description": "Empty."},
                        "dagster_d": {"type": "str", "description": "Worked out."},
                        "dagster_e": {"type": "int", "description": "None at all."},
                        "dagster_f": {"type": "str", "description": "Derived."},
                    }
                }
            }
        },
        "defaults/main.yml": {"dagster_b": [], "dagster_c": "", "dagster_d": "{{ dagster_c | upper }}"},
    }
    for name, content in files.items():
        path = tmp_path / "roles/one" / name
        path.parent.mkdir(parents=True)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    readme = f"# one\n\nHead.\n\n{docs.BEGIN}\nold\n{docs.END}\n\nFoot.\n"
    (tmp_path / "roles/one/README.md").write_text(readme, encoding="utf-8")
    return tmp_path


TABLE = f"""# one

Head.

{docs.BEGIN}
{docs.NOTE}
| variable | type | default | meaning |
|---|---|---|---|
| `dagster_a` | str | **required** | One (`dagster_b`). Two \\| three. |
| `dagster_b` | list of dict | `[]` | List. |
| `dagster_b[].x` | dict |  | X. |
| `dagster_b[].x.y` | str |  | Y. |
| `dagster_b[].z` | int | **required** | Z. One of `1`, `2`. |
| `dagster_c` | str | `""` | Empty. |
| `dagster_d` | str | `{{{{ dagster_c \\| upper }}}}` | Worked out. |

### Derived from the inventory

The plan works these out. Set one to overrule it.

| variable | type | default | meaning |
|---|---|---|---|
| `dagster_e` | int |  | None at all. |
| `dagster_f` | str |  | Derived. |
{docs.END}

Foot.
"""


def test_docs_check_and_write(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tree / "roles/one/README.md"
    before = readme.read_text(encoding="utf-8")
    assert docs.main(["--check"], tree) == 1
    assert "-old" in capsys.readouterr().out.splitlines()
    assert readme.read_text(encoding="utf-8") == before
    assert docs.main([], tree) == 0
    assert readme.read_text(encoding="utf-8") == TABLE
    assert docs.main(["--check"], tree) == 0
    capsys.readouterr()
    assert docs.main([], tree) == 0
    assert capsys.readouterr().out == "", "nothing is written twice"


@pytest.mark.parametrize("text", ["", "no markers", f"{docs.END}\n{docs.BEGIN}\n", f"{docs.BEGIN}\n" * 2 + docs.END])
def test_docs_without_markers(tree: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    readme = tree / "roles/one/README.md"
    readme.write_text(text, encoding="utf-8")
    assert docs.main([], tree) == 1
    assert "roles/one/README.md needs one line" in capsys.readouterr().err
    assert readme.read_text(encoding="utf-8") == text


def test_docs_without_readme(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "roles/one/README.md").unlink()
    assert docs.main([], tree) == 1
    assert "roles/one/README.md is missing" in capsys.readouterr().err


def test_docs_of_a_role_that_others_call(tree: Path) -> None:
    path = tree / "roles/one/meta/argument_specs.yml"
    option = {"type": "str", "description": "Mode."}
    found = {"make": {"options": {"dagster_c": option}}, "remove": {"options": {"dagster_g": option}}}
    path.write_text(yaml.safe_dump({"argument_specs": found}), encoding="utf-8")
    assert docs.block(tree, "one").splitlines() == [
        docs.NOTE,
        "",
        "### make",
        "",
        *docs.HEAD,
        "| `dagster_c` | str | `` | Mode. |",
        "",
        "### remove",
        "",
        *docs.HEAD,
        "| `dagster_g` | str |  | Mode. |",
    ]


def test_docs_name_the_roles_that_share_a_variable(tree: Path) -> None:
    for name in ("meta/argument_specs.yml", "defaults/main.yml"):
        other = tree / "roles/two" / name
        other.parent.mkdir(parents=True)
        other.write_text((tree / "roles/one" / name).read_text(encoding="utf-8"), encoding="utf-8")
    assert '| `dagster_c` | str | `""` | Empty. Shared with two. |' in docs.block(tree, "one")


@pytest.mark.parametrize("path", VARIABLE_FILES + TASK_FILES + PLAY_FILES, ids=str)
def test_a_newline_is_one(path: Path) -> None:
    """Ansible doubles a backslash inside of {{ }}: what stands there as \\n would be two characters in a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    tokens = [token.value for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken)]
    expressions = [found for value in tokens for found in re.findall(r"\{\{.*?\}\}", value, re.DOTALL)]
    assert [found for found in expressions if "\\n" in found] == []
