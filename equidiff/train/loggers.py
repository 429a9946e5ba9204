"""Where numbers go: a file of JSON lines always, wandb if asked for. The only module that imports wandb."""

from __future__ import annotations

import json
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from equidiff.writing import naming, write_text

__all__ = ["JsonLines", "Logger", "Wandb", "wandb_mode"]


class Logger(Protocol):
    """Takes named numbers of a step."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` of optimiser step `step`."""

    def close(self) -> None:
        """Flush and release."""


class JsonLines:
    """metrics.jsonl: one JSON object a line, {"step": n, name: number, ...}, flushed at once.

    after: keep what an earlier run wrote up to this step and drop the rest, which will be written again.
    """

    def __init__(self, path: str | os.PathLike[str], after: int = 0) -> None:
        self.path = Path(path)
        kept = [line for line in read_lines(self.path) if line["step"] <= after] if after else []
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with naming(self.path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()

    def close(self) -> None:
        with naming(self.path):
            self._file.close()


def read_lines(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
    file = Path(path)
    if not file.exists():
        return []
    lines = file.read_text().splitlines()
    found = []
    for number, text in enumerate(lines, 1):
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            if number < len(lines):
                raise
    return found


class Wandb:
    """Weights & Biases. Without a key it runs offline; `wandb sync` uploads later."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        config: Mapping[str, Any],
        project: str = "equidiff",
        name: str | None = None,
        tags: Sequence[str] = (),
        mode: str | None = None,
    ) -> None:
        import wandb

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / "wandb_id"  # a resumed run goes on in the same place
        run_id = note.read_text().strip() if note.exists() else None
        self._run = wandb.init(
            project=project,
            name=name or folder.name,
            tags=list(tags),
            config=dict(config),
            dir=str(folder),
            mode=mode or wandb_mode(os.environ),  # type: ignore[arg-type]
            id=run_id,
            resume="allow",
        )
        note.write_text(self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def wandb_mode(environ: Mapping[str, str]) -> str:
    """WANDB_MODE if set, "online" with a key (WANDB_API_KEY or a netrc entry), else "offline"."""
    if environ.get("WANDB_MODE"):
        return environ["WANDB_MODE"]
    if environ.get("WANDB_API_KEY"):
        return "online"
    host = urlparse(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(environ.get("NETRC") or Path(environ.get("HOME", "~")).expanduser() / ".netrc")
    try:
        return "online" if netrc.netrc(str(file)).authenticators(host) else "offline"
    except (OSError, netrc.NetrcParseError):
        return "offline"
