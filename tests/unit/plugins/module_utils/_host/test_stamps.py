"""A stamp changes with each write of a file, and shows nothing of what is in it."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.dataops.dagster.plugins.module_utils._host.stamps import stamps


def test_stamp_stays_until_somebody_writes(tmp_path: Path) -> None:
    file, link = tmp_path / "dagster.yaml", tmp_path / "current"
    file.write_text("a", encoding="utf-8")
    link.symlink_to("1.13.26")
    os.utime(file, ns=(1, 1))
    asked = [str(tmp_path / "*"), str(file), str(tmp_path / "missing")]
    before = stamps(asked)
    assert [line.split()[0] for line in before] == [str(link), str(file)]
    assert stamps(asked) == before
    file.write_text("b", encoding="utf-8")
    assert set(stamps(asked)) - set(before) == {stamps([str(file)])[0]}
    os.utime(file, ns=(1, 1))
    file.chmod(0o600)
    assert stamps([str(file)])[0] not in before, "a mode that a role has mended"


def test_link_is_stamped_by_where_it_leads(tmp_path: Path) -> None:
    link = tmp_path / "current"
    found = set()
    for version in ("1.13.26", "1.13.27"):
        link.unlink(missing_ok=True)
        link.symlink_to(version)
        os.utime(link, ns=(1, 1), follow_symlinks=False)
        found.update(stamps([str(link)]))
    assert len(found) == 2
