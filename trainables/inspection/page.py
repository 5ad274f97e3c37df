"""An inspection as one HTML page, with the images that show what was found, and as JSON."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from trainables.check import alarms
from trainables.files import write_text
from trainables.inspection.doctor import Inspection
from trainables.inspection.thumbnails import MOST_SHOWN

__all__ = ["PAGE", "RECORD", "as_json", "render", "write"]

PAGE, RECORD = "inspection.html", "inspection.json"


def as_json(inspection: Inspection) -> dict[str, Any]:
    """Everything that was found, as JSON data; images by the names that the source gives them."""
    return {
        "source": inspection.source,
        "class_names": list(inspection.class_names),
        "counts": inspection.counts,
        "weights": list(inspection.weights),
        "checks": [{**asdict(finding.check), "details": dict(finding.details)} for finding in inspection.findings],
        "left_out": inspection.left_out,
    }


def render(inspection: Inspection) -> str:
    """The page; it loads nothing from elsewhere."""
    template = files("trainables.inspection").joinpath("page.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    pictures = {
        number: f"data:image/jpeg;base64,{base64.b64encode(file).decode()}"
        for number, file in inspection.thumbnails.items()
    }
    order = ("problem", "warning", "unknown", "ok")
    findings = sorted(inspection.findings, key=lambda finding: order.index(finding.check.status))
    return environment.from_string(template).render(
        inspection=inspection, findings=findings, pictures=pictures, most=MOST_SHOWN, alarms=alarms(inspection.checks),
        total=sum(map(sum, inspection.counts.values())), written=time.strftime("%Y-%m-%d %H:%M"),
    )  # fmt: skip


def write(inspection: Inspection, folder: Path) -> None:
    """Write the page and the JSON file into `folder`, which is made if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PAGE, render(inspection))
    write_text(folder / RECORD, json.dumps(as_json(inspection), indent=1) + "\n")
