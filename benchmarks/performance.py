"""Write docs/performance.md, docs/scaling.md and the plot from the results of ``python -m benchmarks.peers --write``.

Without ``--write``, only check that the documents agree with the results.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .store import dumped

ROOT = Path(__file__).parent.parent
TEMPLATES = Path(__file__).with_name("templates")
RESULTS = Path(__file__).with_name("results.json")
PERFORMANCE, SCALING, PLOT = (ROOT / "docs" / name for name in ("performance.md", "scaling.md", "growth.svg"))

OURS = "wsgi_oauth"
PEERS = ("the tutorial in Flask", "Flask-Dance", "Authlib", "django-allauth", "Bottle with Beaker")
BY_HAND = "by hand"
COLUMNS = (*PEERS, BY_HAND)
APACHE, VERIFY = "Apache with mod_auth_openidc", "nginx with /verify"
GATE, HELLO = "gunicorn with the gate", "gunicorn with a bare application"

# The rows of the comparison and their targets, the highest values. A function computes the target from the row.
TARGETS: dict[str, Any] = {
    "a signed-in request": 0.5,
    "an anonymous request": 2.5,
    "the start of a sign-in": 7,
    "another start in the same session": 8,
    "/profile over TLS, ms": lambda row: _best_peer(row) / 25,
    "a whole sign-in over TLS, ms": lambda row: _best_peer(row) / 14,
    "connections opened for a profile": 0,
    "connections opened for a callback": 0,
    "/profile at 20 ms round trip, round trips": 1.15,
    "import and creation": 2.2,
    "memory of a worker, MB": 36,
}
# Values that only this project has, their names in the table, and their targets.
VARIANTS: dict[str, Any] = {
    "with encrypted sessions": ("", 1.5),
    "with sessions on Redis": (
        "",
        lambda row: row["GET of redis-py alone"] + 0.7 if "GET of redis-py alone" in row else None,
    ),
    "/verify of wsgi_oauth": ("`GET /verify`, signed in", 1.5),
    "with the extra openid": ("", None),
    "without its settings for gunicorn": ("", None),
}

# The costs of the programs by hand, and the targets, on the machine on which the targets were set.
THERE = {
    "a signed-in request": (0.37, 0.5),
    "an anonymous request": (1.4, 2.5),
    "the start of a sign-in": (7.0, 7.0),
    "another start in the same session": (7.9, 8.0),
    "a whole sign-in over TLS, ms": (1.53, 1.8),
    "import and creation": (1.8, 2.2),
}
UNCACHED_GATE = "a gate by hand without a cache: one cookie, one file"


def _best_peer(row: dict[str, float]) -> float:
    return min(value for name, value in row.items() if name in PEERS)


def _number(value: float | None) -> str:
    """Return *value* with three significant digits."""
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}" if value != int(value) or value >= 10 else str(int(value))


def _rounded(value: float) -> float:
    """Return *value* with two significant digits."""
    return float(f"{value:.2g}")


def _target(target: Any, row: dict[str, float]) -> float | None:
    return target(row) if callable(target) and row else target


def _judged(value: float | None, target: float | None) -> tuple[str, str]:
    """Return the cells of our value, in bold if it misses the target, and of the target."""
    if value is None or target is None:
        return _number(value), ""
    return (_number(value) if value <= target else f"**{_number(value)}**"), f"{_number(target)}"


def comparison_table(results: dict[str, Any]) -> list[str]:
    lines = [f"| | {' | '.join(COLUMNS)} | {OURS} | target |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name, target in TARGETS.items():
        row = results["rows"].get(name, {})
        if row:
            cells = [_number(row.get(column)) for column in COLUMNS] + list(
                _judged(row.get(OURS), _target(target, row))
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
        for variant in [each for each in row if each in VARIANTS]:
            title, limit = VARIANTS[variant]
            ours = _judged(row[variant], _target(limit, row))
            lines.append(f"| {title or f'{name}, {variant}'} |{' |' * len(COLUMNS)} {' | '.join(ours)} |")
    return lines


def _missed(results: dict[str, Any]) -> list[str]:
    """Return a sentence for each target that is missed."""
    found = []
    for name, target in TARGETS.items():
        row = results["rows"].get(name, {})
        values = {OURS: (name, target), **{each: VARIANTS[each] for each in row if each in VARIANTS}}
        for variant, (title, limit) in values.items():
            value, most = row.get(variant), _target(limit, row)
            if value is not None and most is not None and value > most:
                found.append(f"- {title or f'{name}, {variant}'}: {_number(value)}, target {_number(most)}")
    servers = results["servers"]
    if servers and servers[VERIFY] > servers[APACHE]:
        times = _number(servers[VERIFY] / servers[APACHE])
        found.append(f"- {VERIFY}: {times} times the CPU time of {APACHE}, target 1")
    return found


def _floor_table(floor: dict[str, float]) -> list[str]:
    return ["| | cost |", "|---|---|", *(f"| {name} | {_number(value)} |" for name, value in floor.items())]


def _unit_table(results: dict[str, Any]) -> list[str]:
    """Compare our costs with the targets in a unit that does not depend on the machine: the same programs by hand."""
    lines = [
        "| | by hand, there | by hand, here | wsgi_oauth, as a multiple | target, as a multiple |",
        "|---" * 5 + "|",
    ]
    for name, (by_hand, target) in THERE.items():
        row = results["rows"][name]
        here = results["floor"][UNCACHED_GATE] if name == "a signed-in request" else row[BY_HAND]
        cells = (_number(by_hand), _number(here), *_judged(row[OURS] / here, target / by_hand))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _servers_table(servers: dict[str, float]) -> list[str]:
    lines = ["| server | CPU time of a request, µs (measured) | requests per second (computed) |", "|---|---|---|"]
    for name, value in sorted(servers.items(), key=lambda item: item[1]):
        lines.append(f"| {name} | {value:,.0f} | {_rounded(1e6 / value):,.0f} |")
    return lines


def _growth_table(growth: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    sizes = list(growth["files"]["load"])
    lines = [
        f"| | {' | '.join(f'{int(size):,}' for size in sizes)} | growth |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for store, rows in growth.items():
        for name, row in rows.items():
            if name != "bytes per session":
                times = [row[size] for size in sizes]
                cells = [*map(_number, times), _number(times[-1] / times[0])]
                lines.append(f"| {store}: {name} | {' | '.join(cells)} |")
    return lines


def figures(results: dict[str, Any]) -> dict[str, Any]:
    """Return the values for the templates. Times are in microseconds, unless the name says otherwise."""
    rows, servers, files, on_redis = (
        results["rows"],
        results["servers"],
        results["growth"]["files"],
        results["growth"]["Redis"],
    )
    signed_in = rows["a signed-in request"]
    largest = list(files["load"])[-1]
    gate, bare, verify = servers[GATE], servers[HELLO], servers[VERIFY]
    session_bytes, redis_bytes = len(dumped()), on_redis["bytes per session"][largest]
    overhead = redis_bytes - session_bytes
    get, save = on_redis["load for the gate, on a busy server"][largest], on_redis["save, on the server"][largest]
    return {
        **results,
        "versions": ", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        "redis_added": signed_in["with sessions on Redis"] - signed_in["GET of redis-py alone"],
        "redis_get_ratio": signed_in["GET of redis-py alone"],
        "session_bytes": session_bytes,
        "largest": int(largest),
        "gate": gate,
        "bare": bare,
        "verify": verify,
        "gate_per_second": _rounded(1e6 / gate),
        "verify_per_second": _rounded(1e6 / verify),
        "gate_on_four": _rounded(2e6 / gate),
        "verify_on_four": _rounded(2e6 / verify),
        "sign_in": 1000 * rows["a whole sign-in over TLS, ms"][OURS] + 2 * bare,
        "worker": rows["memory of a worker, MB"][OURS],
        "file_bytes": files["bytes per session"]["1000"],
        "file_load": files["load"][largest],
        "redis_bytes": redis_bytes,
        "redis_overhead": overhead,
        "redis_per_gb": 1000 / redis_bytes,
        "redis_on_4gb": 2000 / redis_bytes,
        "redis_on_4gb_large": 2000 / (overhead + 5000),
        "redis_get": get,
        "redis_save": save,
        "redis_reads": _rounded(1e6 / get),
        "gate_processors": gate / get,
    }


# The figures of docs/scaling.md: name, text for str.format, origin.
SCALING_FIGURES = (
    ("a request through the gate, in gunicorn (gthread)", "{gate:,.0f} µs of CPU", "measured"),
    ("a bare application in gunicorn, in comparison", "{bare:,.0f} µs of CPU", "measured"),
    ("requests through the gate per second, one processor", "{gate_per_second:,.0f}", "computed"),
    ("a request through nginx and `/verify`, all processes", "{verify:,.0f} µs of CPU", "measured"),
    ("requests through `/verify` per second, one processor", "{verify_per_second:,.0f}", "computed"),
    (
        "a sign-in, with its requests to the provider over TLS",
        "{sign_in:,.0f} µs of CPU",
        "computed from measured parts",
    ),
    ("memory of a worker", "{worker:,.0f} MB", "measured"),
    ("a session of {session_bytes} bytes in a file", "{file_bytes:,.0f} bytes and an inode", "measured"),
    ("loading a session from a file, among {largest:,}", "{file_load:.1f} µs of CPU", "measured"),
    ("a session of {session_bytes} bytes on Redis, among {largest:,}", "{redis_bytes:,.0f} bytes", "measured"),
    ("sessions in 1 GB of Redis", "{redis_per_gb:.1f} million", "computed"),
    ("a read by the gate, CPU time of a busy Redis server", "{redis_get:.1f} µs", "measured"),
    ("a changed session, CPU time of the Redis server", "{redis_save:.1f} µs", "measured"),
    ("reads by the gate per second, one Redis server", "{redis_reads:,.0f}", "computed"),
)


def documents() -> dict[Path, str]:
    """Return the text of each document."""
    results = json.loads(RESULTS.read_text())
    values = figures(results)
    tables = {
        "comparison": comparison_table(results),
        "floor": _floor_table(results["floor"]),
        "unit": _unit_table(results),
        "servers": _servers_table(results["servers"]),
        "growth": _growth_table(results["growth"]),
        "missed": _missed(results) or ["None."],
        "figures": [
            "| | figure | origin |",
            "|---|---|---|",
            *(f"| {name} | {text} | {origin} |".format(**values) for name, text, origin in SCALING_FIGURES),
        ],
    }
    values |= {name: "\n".join(lines) for name, lines in tables.items()}
    return {path: (TEMPLATES / path.name).read_text().format(**values) for path in (PERFORMANCE, SCALING)}


def write_documents() -> None:
    for path, text in documents().items():
        path.write_text(text)


def write_plot() -> None:
    """Draw the growth. Needs matplotlib, which ``python -m benchmarks.peers`` installs."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "wsgi_oauth"  # otherwise each run would write other ids
    from matplotlib import pyplot as plt  # noqa: PLC0415

    growth = json.loads(RESULTS.read_text())["growth"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, (store, rows) in zip(axes, growth.items(), strict=True):
        for name in ("load", "save", "create", "delete"):  # the same order on both axes, because one legend serves both
            axis.plot([int(size) for size in rows[name]], list(rows[name].values()), marker="o", label=name)
        axis.set(
            xscale="log", title=f"sessions in {store}" if store == "files" else "sessions on Redis", xlabel="sessions"
        )
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="CPU time of the application, µs", ylim=(0, None))
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        write_documents()
        return
    stale = [str(path.relative_to(ROOT)) for path, text in documents().items() if path.read_text() != text]
    if stale:
        raise SystemExit(f"{', '.join(stale)}: out of date; run python -m benchmarks.performance --write")


if __name__ == "__main__":
    main()
