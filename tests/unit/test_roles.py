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
NOTHING = object()


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def spec(role: str) -> dict[str, Any]:
    found: dict[str, Any] = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return found


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults/main.yml") or {}


docs = load_program(ROOT / "tools" / "docs.py", "docs_program")


HINT = "this role needs the plan of the deployment: import dataops.dagster.preflight in the play before"


@pytest.mark.parametrize("role", ROLES)
def test_spec_and_defaults_are_alike(role: str) -> None:
    """What is derived from the inventory has no default in the spec: it reads the plan, which is nobody's to set."""
    options, values = spec(role), defaults(role)
    assert values.pop("dagster_plan") == f"{{{{ undef(hint='{HINT}') }}}}"
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
        elif value is not NOTHING:
            assert "dagster_plan." in str(value), f"{name} has a default in defaults/main.yml alone: {value!r}"


def test_the_plan_is_no_option() -> None:
    assert not [role for role in ROLES if spec(role).keys() & {"dagster_plan", "dagster_host"}]


def test_a_variable_is_the_same_in_every_role() -> None:
    seen: dict[str, tuple[str, Any]] = {}
    for role in ROLES:
        for name, option in spec(role).items():
            other, known = seen.setdefault(name, (role, option))
            assert option == known, f"{name} differs between {other} and {role}"


@pytest.mark.parametrize("role", ROLES)
def test_names_of_variables(role: str) -> None:
    """What the user sets begins with dagster_, what is ours with __dagster_."""
    assert [name for name in spec(role) if not name.startswith("dagster_")] == []
    path = ROOT / "roles" / role / "vars/main.yml"
    private = load(path) if path.exists() else {}
    assert [name for name in private if not name.startswith("__dagster_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_readme(role: str) -> None:
    text, wanted = docs.rendered(ROOT, role)
    assert text == wanted, "run `make docs`"
    head = text.split(docs.BEGIN)[0]
    assert text.startswith(f"# {role}\n")
    assert f"role: dataops.dagster.{role}" in head, "an example play"
    unknown = set(re.findall(r"\bdagster_[a-z_]+", head)) - KNOWN_NAMES
    assert unknown == set(), "names that neither a spec nor an inventory has"


KNOWN_NAMES = {name for role in ROLES for name in spec(role)} | {
    f"dagster_{group}" for group in ("database", "webserver", "daemon", "code", "run", "proxy")
}
KNOWN_NAMES |= set(load(ROOT / "playbooks/argument_specs.yml")["argument_specs"]["main"]["options"])
# Logins and the like have such names too.
KNOWN_NAMES |= {str(option.get("default")) for role in ROLES for option in spec(role).values()}


@pytest.mark.parametrize("role", ROLES)
def test_table_of_contents(role: str) -> None:
    """tasks/main.yml shows at one glance what a role does."""
    lines = (ROOT / "roles" / role / "tasks/main.yml").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 30


@pytest.mark.parametrize("path", TASK_FILES, ids=str)
def test_length_of_a_task_file(path: Path) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) < 150


def tasks(entries: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All tasks of a file, those in blocks and plays too."""
    for entry in entries:
        yield entry
        for key in ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers"):
            yield from tasks(entry.get(key) or [])


@pytest.mark.parametrize("path", [*TASK_FILES, *PLAY_FILES], ids=str)
def test_no_task_hides_a_failure_or_needs_a_shell(path: Path) -> None:
    content = load(ROOT / path)
    if not isinstance(content, list):  # playbooks/argument_specs.yml
        return
    for task in tasks(content):
        if task.keys() >= {"ignore_errors", "ignore_unreachable", "register", "delegate_to"}:
            continue  # a host that does not answer is an answer, and is judged
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


PLANNED = {"dagster_f": "{{ dagster_plan.options.dagster_f }}"}


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
        "defaults/main.yml": {"dagster_b": [], "dagster_c": "", "dagster_d": "{{ dagster_c | upper }}", **PLANNED},
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
| `dagster_e` | int |  | None at all. |

### Derived from the inventory

The plan works these out. Set one to overrule it.

| variable | type | default | meaning |
|---|---|---|---|
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


def test_docs_name_the_roles_that_share_a_variable(tree: Path) -> None:
    for name in ("meta/argument_specs.yml", "defaults/main.yml"):
        other = tree / "roles/two" / name
        other.parent.mkdir(parents=True)
        other.write_text((tree / "roles/one" / name).read_text(encoding="utf-8"), encoding="utf-8")
    assert '| `dagster_c` | str | `""` | Empty. Shared with two. |' in docs.block(tree, "one")
