"""The data work itself, standard library only and free of Dagster, so that it can be tested and reused by itself."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

Row = dict[str, str]

CUSTOMERS = ("alder", "birch", "cedar", "dogwood", "elm")
FIRST_DAY = date(2024, 1, 1)
COLUMNS = ("order_id", "day", "customer", "amount")


def shop_export(days: int = 30, seed: int = 7) -> list[Row]:
    """What the shop's system would export: with the duplicates and bad rows of real exports, the same at each call."""
    source = random.Random(seed)
    rows: list[Row] = []
    for number in range(days * 20):
        row = {
            "order_id": str(1000 + number),
            "day": (FIRST_DAY + timedelta(days=number // 20)).isoformat(),
            "customer": source.choice(CUSTOMERS),
            "amount": f"{source.uniform(5, 250):.2f}",
        }
        if number % 41 == 0:
            row["amount"] = source.choice(["", "n/a", "-1.00"])
        rows.append(row)
        if number % 53 == 0:
            rows.append(dict(row))
    return rows


def clean(rows: Iterable[Row]) -> list[Row]:
    """One row an order, with a positive amount."""
    kept: dict[str, Row] = {}
    for row in rows:
        try:
            amount = float(row["amount"])
        except ValueError:
            continue
        if amount > 0:
            kept.setdefault(row["order_id"], row)
    return list(kept.values())


def revenue_by(column: str, rows: Iterable[Row]) -> list[Row]:
    """Revenue and number of orders for each value of a column, in its order."""
    cents: defaultdict[str, int] = defaultdict(int)
    orders: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        cents[row[column]] += round(float(row["amount"]) * 100)
        orders[row[column]] += 1
    return [{column: key, "orders": str(orders[key]), "revenue": f"{cents[key] / 100:.2f}"} for key in sorted(cents)]


def total(rows: Iterable[Row], column: str) -> float:
    return sum(round(float(row[column]) * 100) for row in rows) / 100


def markdown(rows: list[Row], limit: int = 10) -> str:
    """The first rows as a table, for the metadata that the UI shows."""
    if not rows:
        return "no rows"
    columns = list(rows[0])
    lines = [" | ".join(columns), " | ".join(["---"] * len(columns))]
    lines += [" | ".join(row[column] for column in columns) for row in rows[:limit]]
    return "\n".join(f"| {line} |" for line in lines)


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def write_csv(path: Path, rows: list[Row], columns: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(columns))
        writer.writeheader()
        writer.writerows(rows)
