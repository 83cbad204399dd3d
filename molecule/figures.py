"""What the scenarios measure, kept for the table of docs/reliability.md, which tests/bench/reliability.py writes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from deployment import NAME, ROOT

FIGURES = ROOT / ".cache" / "figures"
# A figure counts together with those of the same run of the tests only.
SESSION = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def record(
    name: str, value: float, unit: str = "", bound: float | None = None, of: int = 0, folder: Path = FIGURES
) -> None:
    """Adds one measurement, one round of its name.

    name: "fault: what was measured". bound: what value may be at most; without it the figure has no verdict.
    of: how many there were, of which value is the number that failed.

    Call it before the assertion, so that a figure that is too bad is kept as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.json"
    figures = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    figure = {"name": name, "value": round(value, 3), "unit": unit, "bound": bound, "of": of}
    figures.append({**figure, "session": SESSION, "cpus": os.cpu_count()})
    whole = path.with_suffix(".new")
    whole.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    whole.replace(path)
    print(f"{name}: {value:.1f} {unit}".rstrip())
