"""The tables about policies that see."""

from equidiff.report.measured_visual import markdown_laws, markdown_published


def test_measured_laws_become_a_table() -> None:
    errors = {
        "90": {"encoder": 2.1e-15, "denoiser": 0.0, "sampler": 3e-14},
        "45": {"encoder": None, "denoiser": None, "sampler": 0.31},
    }
    rows = [{"policy": "points", "size": "64 points", "order": 4, "errors": errors}]
    text = markdown_laws({"angles": [90, 45], "rows": rows, "batch": 2, "date": "2026-01-01", "command": "python x.py"})
    header, _, row, *_ = text.splitlines()
    assert header.split(" | ")[3:5] == ["encoder 90°", "encoder 45°"]
    assert row == "| points | 64 points | 4 | 2e-15 | – | 0 | – | 3e-14 | 3e-01 |"
    assert text.endswith("2 random scenes, float64. 2026-01-01: `python x.py`")


def test_measured_steps_become_a_table() -> None:
    row = {"parameters": 271000000, "step_s": 21.44, "peak_mb": 9876, "imports_mb": 512, "build_s": 0.31}
    about = {"batch": 4, "cpu": "a CPU", "date": "2026-01-01", "command": "python x.py"}
    text = markdown_published({"experiments": {"equidiff_image_abs": row}, **about})
    assert "| `equidiff_image_abs` | 271,000,000 | 21.4 s | 9.9 GB | 0.3 s |" in text
    assert "imports are 0.5 GB. a CPU, 2026-01-01: `python x.py`" in text
