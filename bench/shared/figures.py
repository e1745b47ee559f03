"""Figures as every benchmark prints and keeps them."""

import datetime
import json
import os
import pathlib
import platform
import statistics


def figure(values, unit="ratio"):
    """The median of measurements, and how far apart they were."""
    spread = f"{min(values):.3f}…{max(values):.3f} of {len(values)}"
    return {"value": round(statistics.median(values), 3), "unit": unit, "spread": spread}


def ratios(above, below):
    """Of what was measured in the same rounds."""
    return [a / b for a, b in zip(above, below) if b]


def keep(folder, phase, figures, medians):
    """What a phase has found, for `kept`."""
    part = {"figures": figures, "medians": medians}
    pathlib.Path(folder, f"{phase}.json").write_text(json.dumps(part), encoding="utf-8")


def kept(folder, phases):
    """What those of the phases have found that ran."""
    figures, medians = {}, {}
    for phase in phases:
        if (path := pathlib.Path(folder, f"{phase}.json")).exists():
            part = json.loads(path.read_text(encoding="utf-8"))
            figures.update(part["figures"])
            medians.update(part["medians"])
    return figures, medians


def show(figures):
    for name, value in figures.items():
        print(f"figure {name} {value['value']:.3f} {value['unit']} ({value['spread']})", flush=True)


def write(path, benchmark, versions, settings, figures, medians):
    result = {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        **versions,
        # Which sidecar: as `make build` makes it, or `make tuned`.
        "program": pathlib.Path(os.environ.get("PROGRAM") or "target/release/integratedb").parent.name,
        "settings": settings,
        "figures": figures,
        "medians": medians,
    }
    with open(path, "w", encoding="utf-8") as out:
        json.dump(result, out, indent=1, ensure_ascii=False)
        out.write("\n")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
