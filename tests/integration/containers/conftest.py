"""An engine with an image and networks of ours, and without what a test has left."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from containers_rig import BAD_IMAGE, EXTRA_NETWORK, IMAGE, LABEL, NETWORK, OTHER_IMAGE, base_tar, clean, engine


@pytest.fixture(scope="session")
def api() -> Iterator[Any]:
    api = engine()
    clean(api)
    api.import_image_from_data(base_tar(), repository="t-code-base", tag="itest")
    home = sys.base_prefix
    for ref, extra in (
        (IMAGE, f'ENV FROM_IMAGE=yes\nLABEL from.image=yes {LABEL}="t-code-inherited"'),
        (OTHER_IMAGE, "ENV FROM_IMAGE=other"),
        (BAD_IMAGE, "ENV BAD=1"),
    ):
        recipe = f"FROM t-code-base:itest\nENV PYTHONHOME={home}\n{extra}\n"
        for line in api.build(fileobj=io.BytesIO(recipe.encode()), tag=ref, rm=True, decode=True):
            assert "error" not in line, line
    for name in (NETWORK, EXTRA_NETWORK):
        api.create_network(name)
    yield api
    clean(api)


@pytest.fixture(autouse=True)
def no_leftovers(api: Any) -> Iterator[None]:
    yield
    for item in api.containers(all=True, filters={"name": "dagster-code-t-code-"}):
        api.remove_container(item["Id"], force=True, v=True)
