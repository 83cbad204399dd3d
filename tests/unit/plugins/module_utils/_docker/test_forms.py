# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Forms of options as teams write them: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.dataops.dagster.plugins.module_utils._docker import forms


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("512m", 512 << 20),
        ("1G", 1 << 30),
        ("1.5gb", 3 << 29),
        (64, 64),
        ("2 GB", 2 << 30),
        ("2Gi", 2 << 30),
        ("2GiB", 2 << 30),
        ("512 Mi", 512 << 20),
    ],
)
def test_sizes(value: Any, size: int) -> None:
    assert forms.parse_size(value) == size


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lots", "'lots' is not a size like 512m or 1g"),
        ("50%", "'50%' is not a size"),
        ("-1g", "'-1g' is not a size"),
        ("1,5g", "did you mean 1.5g?"),
        (1024, "1024 is 1024 bytes"),
        ("5m", "a container has at least 6m"),
    ],
)
def test_memory_that_a_container_cannot_have(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r"512m") as caught:
        forms.memory(value)
    assert words in str(caught.value)
    assert forms.memory("6m") == 6 << 20
    assert forms.memory(0) == 0


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/srv/data:/data", ("/srv/data", "/data", ())),
        ("/srv//data/:/data/./x/", ("/srv/data", "/data/x", ())),
        ("cache:/root/.cache:rw,nocopy", ("cache", "/root/.cache", ("rw", "nocopy"))),
        ("/a:/b:ro,z,rslave", ("/a", "/b", ("ro", "z", "rslave"))),
        ("/:/host:ro", ("/", "/host", ("ro",))),
        ("/a:/b:", ("/a", "/b", ())),
    ],
)
def test_volumes(value: str, found: tuple[str, str, tuple[str, ...]]) -> None:
    assert forms.volume(value) == forms.Volume(*found)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("/data", "did you mean /data:/data?"),
        (" /a:/b", "did you mean /a:/b?"),
        ("/a:/b:ro:x", "expected SOURCE:PATH[:MODE]"),
        ({"/a": "/b"}, "is no text"),
        ("./data:/data", "neither an absolute path of the host nor the name of a volume"),
        ("~/.aws:/root/.aws", "neither an absolute path"),
        ("$HOME/x:/x", "neither an absolute path"),
        (":/data", "neither an absolute path"),
        ("/a:data", "is 'data'; expected an absolute one"),
        ("/a:/", "is '/'; expected an absolute one below /"),
        ("/a:/b:readonly", "mode of '/a:/b:readonly' is 'readonly'; expected ro, rw"),
        ("/a:/b:ro,rw", "says ro and rw; keep one"),
        ("/a:/b:nocopy", "which only a named volume has"),
        ("cache:/b:rslave", "cache is a named volume"),
    ],
)
def test_volumes_that_the_engine_does_not_take(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        forms.volume(value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/dev/fuse", "/dev/fuse:/dev/fuse:rwm"),
        ("/dev/sda:/dev/xvda", "/dev/sda:/dev/xvda:rwm"),
        ("/dev/sda:/dev/xvda:mr", "/dev/sda:/dev/xvda:rm"),
    ],
)
def test_devices(value: str, found: str) -> None:
    assert forms.device(value) == found


@pytest.mark.parametrize("value", ["fuse", "/etc/fuse", "/dev/a:b", "/dev/a:/b:rwx", "/dev/a:/b:r:w", ""])
def test_devices_that_are_none(value: str) -> None:
    with pytest.raises(ValueError, match="for example /dev/fuse"):
        forms.device(value)


def test_labels_and_hosts_as_dictionary_and_as_list() -> None:
    assert forms.labels({"team": "data", "tier": 1, "on": True}) == {"team": "data", "tier": "1", "on": "true"}
    assert forms.labels(["team=data", "bare"]) == {"team": "data", "bare": ""}
    found = {"db.example.com": "10.0.0.5", "me": "host-gateway", "six": "fd00::5"}
    assert forms.extra_hosts(found) == found
    assert forms.extra_hosts([f"{name}:{address}" for name, address in found.items()]) == found
    assert forms.extra_hosts({"six": "[fd00::5]"}) == {"six": "fd00::5"}
    assert forms.labels(None) == forms.extra_hosts(None) == {}


@pytest.mark.parametrize(
    ("form", "value", "words"),
    [
        (forms.labels, "team=data", "expected a dictionary"),
        (forms.labels, {"a b": 1}, "'a b' is no name of a label"),
        (forms.labels, [{"team": "data"}], "expected NAME=VALUE"),
        (forms.extra_hosts, ["db.example.com"], "expected NAME:VALUE"),
        (forms.extra_hosts, {"db": "db2.example.com"}, "db has 'db2.example.com', expected an IP address"),
        (forms.extra_hosts, {"10.0.0.5": "db"}, "did you mean db: 10.0.0.5?"),
        (forms.extra_hosts, {"a b": "10.0.0.5"}, "'a b' is no name of a host"),
    ],
)
def test_labels_and_hosts_that_are_none(form: Any, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        form(value)
    assert words in str(caught.value)
