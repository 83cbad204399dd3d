# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""States for an operator: readable, without secrets."""

from __future__ import annotations

from wishes import IMAGE, real, wish

from ansible_collections.dataops.dagster.plugins.module_utils._docker.shown import readable, secret_values, to_text
from ansible_collections.dataops.dagster.plugins.module_utils._docker.state import compare, wanted_state


def test_secrets_are_masked_wherever_they_are_shown() -> None:
    env = {"DB_PASSWORD": "hunter22", "API_TOKEN": "abc", "URL": "postgresql://u:s3cret@db/x", "PGPASSFILE": "/run/p"}
    location = wish(env=env)
    shown = to_text(readable(wanted_state(location, IMAGE)))
    differences = " ".join(str(item) for item in compare(location, IMAGE, real(wish())))
    for text in (shown, differences):
        assert "hunter22" not in text
        assert "s3cret" not in text
        assert "/run/p" in text
    assert secret_values(env) == {"hunter22", "s3cret"}


def test_text_of_a_diff_reads_like_yaml() -> None:
    data = {"a": {"ports": ["x->y"], "env": {"K": "v"}, "volumes": [], "labels": {}, "user": "1"}}
    assert to_text(data) == ("a:\n  ports:\n    - x->y\n  env:\n    K: v\n  volumes: []\n  labels: {}\n  user: 1\n")
