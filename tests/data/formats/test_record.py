"""The numbers of docs/formats.md are those that scripts/check_lerobot.py recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_record_is_clean_and_the_docs_quote_it() -> None:
    record = json.loads((ROOT / "docs/measurements/lerobot.json").read_text())
    page = (ROOT / "docs/formats.md").read_text()
    assert record["checks"]
    assert False not in record["checks"].values()
    versions = f"lerobot {record['lerobot']} (Python {record['python']}, numpy {record['numpy']}"
    assert versions in re.sub(r"\s+", " ", page)
    for name, codec in (("av1", "libsvtav1"), ("h264", "h264")):
        mean = record["checks"][f"{name}: obs/agentview_image: mean error of the video, grey levels"]
        largest = record["checks"][f"{name}: obs/agentview_image: largest error, grey levels"]
        assert f"| `{codec}` | {mean} | {largest} |" in page
