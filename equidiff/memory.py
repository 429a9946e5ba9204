"""How much memory a process of this computer holds (Linux)."""

from __future__ import annotations

import threading
from pathlib import Path

__all__ = ["PeakMemory", "process_memory"]


def process_memory(process: str = "self") -> dict[str, int]:
    """Bytes of VmRSS, VmHWM (the peak) and RssAnon of a process, by its number.

    Not `ru_maxrss` of the resource module: Linux hands that on through fork and exec, so it would be the size of a
    larger parent.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = {key: value for key, _, value in (line.partition(":") for line in lines)}
    return {key: int(found[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM", "RssAnon")}  # it counts in KiB


class PeakMemory:
    """Largest anonymous memory of this process, which the system cannot take back, while it is open.

    Looked at every 5 ms. grown: bytes more than at the beginning.
    """

    def __enter__(self) -> PeakMemory:
        self.before = self.most = process_memory()["RssAnon"]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self.most - self.before

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.most = max(self.most, process_memory()["RssAnon"])
