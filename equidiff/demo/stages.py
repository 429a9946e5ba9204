"""Stages whose results are reused when the settings they were made with are the same."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equidiff.demo.settings import DemoError
from equidiff.results import write_json

__all__ = ["Stage", "clear", "refuse_foreign"]

_NOTE = "stage.json"


@dataclass(frozen=True)
class Stage:
    """A folder that one step of the demo fills.

    settings: JSON of everything the content depends on, the fingerprints of earlier stages included.
    The note stage.json in the folder says for which settings it is being made and whether it is finished.
    """

    folder: Path
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stand for the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def note(self) -> dict[str, Any]:
        """What stage.json says; empty if there is none or it is damaged."""
        try:
            found = json.loads((self.folder / _NOTE).read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def begun(self) -> bool:
        """Whether the folder belongs to these settings."""
        return bool(self.note.get("fingerprint") == self.fingerprint)

    @property
    def finished(self) -> bool:
        """Whether the folder holds the complete result of these settings."""
        return self.begun and bool(self.note.get("finished"))

    def changes(self) -> str:
        """In words, why what is there cannot be used; empty if nothing is there or it can."""
        old = self.note.get("settings")
        if self.begun or not isinstance(old, dict):
            return ""
        names = [name for name in dict.fromkeys([*self.settings, *old]) if old.get(name) != self.settings.get(name)]
        short = [f"{name} was {old.get(name)}, now {self.settings.get(name)}" for name in names]
        return "; ".join(
            text if len(text) <= 80 else f"{name} changed" for name, text in zip(names, short, strict=True)
        )

    def begin(self) -> None:
        """Claim the folder: go on if it was begun with these settings, else empty it.

        Raises DemoError for a folder with content that no demo made.
        """
        if not self.begun:
            clear(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _NOTE, self._tree(finished=False))

    def finish(self, **facts: Any) -> None:
        """Mark the result as complete; `facts` (JSON) are kept in the note."""
        write_json(self.folder / _NOTE, {**self._tree(finished=True), **facts})

    def _tree(self, finished: bool) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "finished": finished, "settings": dict(self.settings)}


def refuse_foreign(folder: Path) -> None:
    """Raise DemoError for a folder with content that no demo made."""
    if folder.exists() and not (folder.is_dir() and ((folder / _NOTE).exists() or not any(folder.iterdir()))):
        raise DemoError(f"{folder}: has files that the demo did not make; move them away or choose another out=...")


def clear(folder: Path) -> None:
    """Delete the folder of a stage, if there is one. Raises DemoError for one with content that no demo made."""
    refuse_foreign(folder)
    if folder.exists():
        shutil.rmtree(folder)
