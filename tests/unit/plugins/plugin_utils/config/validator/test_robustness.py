"""Nothing makes the validator crash or wait."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from findings import findings
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.dataops.dagster.plugins.plugin_utils.config import validator as subject
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.validator import catalogue, source
from ansible_collections.dataops.dagster.plugins.plugin_utils.config.write import render

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
NAMES = st.sampled_from([*catalogue.load().top_level, "config", "module", "class", "env", "load_from", "grpc_server"])
TREES = st.recursive(
    LEAVES | NAMES,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(NAMES | LEAVES, children, max_size=4),
    max_leaves=15,
)


@given(TREES, st.sampled_from(subject.KINDS), st.sampled_from(catalogue.minors()))
def test_no_data_crashes_it(data: Any, kind: str, minor: str) -> None:
    report = subject.validate_data(data, kind, minor, env={"A"})
    json.dumps(report.as_dict())
    subject.validate_data(
        {"run_launcher": data, "storage": data, "run_queue": data, "concurrency": data}, "dagster", minor
    )
    subject.validate_data({"load_from": [{"grpc_server": data}, data]}, "workspace", minor)


@given(
    st.sampled_from(
        ["bool", "int", "float", "null", "timestamp", "binary", "set", "omap", "pairs", "map", "seq", "str"]
    ),
    st.text(alphabet="0123456789:.-_ xe[]{}'+\n", max_size=12),
)
def test_no_tag_crashes_it(tag: str, text: str) -> None:
    for kind in subject.KINDS:
        json.dumps(subject.validate(f"telemetry: !!{tag} {text}", kind).as_dict())


@given(st.binary(max_size=200))
def test_no_bytes_crash_it(content: bytes) -> None:
    for kind in subject.KINDS:
        json.dumps(subject.validate(content, kind).as_dict())


@given(st.text(alphabet=" -:{}[]&*!%|>'\"#?,ab1\n\t\\<", max_size=60))
@settings(max_examples=400)
def test_both_loaders_read_alike(text: str) -> None:
    """Dagster has the slow one; what the fast one reads otherwise would be a wrong verdict."""

    def with_(loader: Any) -> Any:
        document = source.Document()
        try:
            source._build(document, loader, text)
        except (yaml.YAMLError, ValueError, TypeError, source.SourceError):
            return "error"
        return document.data

    if source.FastLoader is None or not source.is_usual(text):
        return
    fast = with_(source.FastLoader)
    if fast != "error":  # then the slow one is asked anyway
        assert repr(fast) == repr(with_(source.SlowLoader))


@given(st.text(alphabet=" -:{}[]&*|>'\"#,ab1\n\\", max_size=60))
def test_data_is_what_yaml_reads(text: str) -> None:
    try:
        wanted = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        with pytest.raises(source.SourceError):
            source.read(text)
        return
    if repr(wanted).count("...") > text.count("..."):  # a list that contains itself
        with pytest.raises(source.SourceError, match="contains itself"):
            source.read(text)
    else:
        assert repr(source.read(text).data) == repr(wanted)


@given(TREES)
def test_render_is_stable(data: Any) -> None:
    """What is read from a rendered text renders to the same text."""
    try:
        text = render(data)
    except TypeError:
        return
    document = source.read(text)
    if text != render(document.data):
        assert ".nan" in text or "e" in text  # numbers that YAML writes in several ways
    assert render(source.read(render(document.data)).data) == render(document.data)


def nested(depth: int) -> bytes:
    return b"".join(b" " * level + b"a:\n" for level in range(depth))


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + level, 98 + level, b", ".join([b"*%c" % (97 + level)] * 9)) for level in range(8)
)
MERGE_BOMB = b"a: &a {x: 1}\n" + b"".join(
    b"%c: &%c {<<: [%s]}\n" % (98 + level, 98 + level, b", ".join([b"*%c" % (97 + level)] * 9)) for level in range(20)
)


@pytest.fixture(scope="module")
def yardstick() -> float:
    """CPU seconds of this machine, now, for a list of 20,000 values that PyYAML's own scanner reads."""
    started = time.process_time()
    yaml.compose("[" + "a," * 20_000 + "]", Loader=yaml.SafeLoader)
    return time.process_time() - started


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: b\n" * 2_000_000, "10000000 bytes"),
        (BOMB, "more than 60000 values"),
        (MERGE_BOMB, "more than 60000 values"),
        (bytes(range(256)) * 200, "binary file"),
        (b"\x7fELF" + b"\0" * 100_000, "binary file"),
        (b"\xff\xfe" + "telemetry: {}".encode("utf-16-le"), "binary file"),
        (b"[" * 100_000, "more than 100 levels"),
        (b"{a: " * 20_000, "more than 100 levels"),
        (b"- " * 50_000, "more than 100 levels"),
        (nested(400), "more than 100 levels"),
        (b"a: &a [*a]", "contains itself"),
        (b"[" + b"a," * 100_000 + b"a]", "more than 60000 values"),
        (b"k: !x v\n" * 20_000, "unusual YAML"),
        (b'"' + b"a" * 200_000, "cannot be read"),
    ],
)
def test_hostile_files_are_refused_quickly(content: bytes, words: str, yardstick: float) -> None:
    """However big or deep, it takes no longer than a few times what a middling file does."""
    started = time.process_time()
    report = subject.validate(content)
    assert time.process_time() - started < 4 * yardstick
    assert not report.valid
    assert words in report.errors[0].message


def test_a_large_workspace_is_fine() -> None:
    entries = "".join(f"  - grpc_server: {{host: h{n}, port: 4000, location_name: l{n}}}\n" for n in range(1000))
    started = time.process_time()
    assert findings("load_from:\n" + entries, "workspace") == []
    assert time.process_time() - started < 1
