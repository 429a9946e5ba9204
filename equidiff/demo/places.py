"""How paths are written for those who read them elsewhere: another folder, Hydra's command line."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["override", "seen_from"]


def seen_from(folder: Path, path: Path) -> str:
    """An absolute path, relative to the folder if it is in it.

    >>> seen_from(Path("/home/me"), Path("/home/me/a/b")), seen_from(Path("/home/me"), Path("/home/you"))
    ('a/b', '/home/you')
    """
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def override(key: str, path: str) -> str:
    """The override key=path, quoted where Hydra's grammar gives a character of the path a meaning.

    >>> print(override("out", "runs/1,2"))
    out='runs/1,2'
    """
    if not re.fullmatch(r"[\w./+-]+", path, re.ASCII):
        path = "'" + path.replace("'", "\\'") + "'"
    return f"{key}={path}"
