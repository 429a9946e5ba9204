"""scripts/rendering_packages.sh in a system of stand-ins: what it installs, what it asks for, what it only notes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "rendering_packages.sh"
ALL = ("libEGL.so.1", "libGL.so.1", "libOSMesa.so.8", "libusb-1.0.so.0")
NO_USB = ALL[:-1]
NO_OSMESA = tuple(name for name in ALL if "OSMesa" not in name)


class System:
    """A folder of commands. `installed`: arguments of every call of apt-get install."""

    def __init__(self, folder: Path, libraries: Sequence[str], user: int, network: bool = True) -> None:
        self.folder, self.log = folder, folder / "apt.log"
        self._command("uname", "echo Linux")
        self._command("id", f"echo {user}")
        self._command("ldconfig", "\n".join(f"echo '\t{name} (libc6,x86-64) => /lib/{name}'" for name in libraries))
        self._command("apt-get", f'echo "$*" >> {self.log}\nexit {0 if network else 100}')

    def run(self) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path}
        return subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True, check=False)

    @property
    def installed(self) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split("--no-install-recommends ")[1] for line in lines if line.startswith("install")]

    def _command(self, name: str, body: str) -> None:
        file = self.folder / name
        file.write_text(f"#!/bin/sh\n{body}\n")
        file.chmod(0o755)


@pytest.mark.parametrize("user", [0, 1000])
def test_with_everything_there_it_says_nothing(tmp_path: Path, user: int) -> None:
    system = System(tmp_path, ALL, user)
    done = system.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert system.installed == []


def test_without_root_a_missing_usb_library_is_only_noted(tmp_path: Path) -> None:
    system = System(tmp_path, NO_USB, user=1000)
    done = system.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("note: RealSense cameras")
    assert done.stdout.endswith("sudo apt-get install libusb-1.0-0\n")
    assert system.installed == []


def test_without_root_missing_rendering_stops_and_names_only_that(tmp_path: Path) -> None:
    system = System(tmp_path, (), user=1000)
    done = system.run()
    assert done.returncode == 1
    assert "libosmesa6" in done.stderr
    assert "libusb" not in done.stderr
    assert "libusb-1.0-0" in done.stdout
    assert system.installed == []


def test_root_installs_both(tmp_path: Path) -> None:
    system = System(tmp_path, [name for name in NO_OSMESA if "usb" not in name], user=0)
    done = system.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(system.installed) == ["libosmesa6", "libusb-1.0-0"]
    assert "note" not in done.stdout
    assert system.log.read_text().splitlines().count("update -qq") == 1


@pytest.mark.parametrize(("libraries", "code"), [(NO_USB, 0), (NO_OSMESA, 1)])
def test_root_without_a_network(tmp_path: Path, libraries: Sequence[str], code: int) -> None:
    done = System(tmp_path, libraries, user=0, network=False).run()
    assert done.returncode == code
    assert ("libusb-1.0-0" in done.stdout.splitlines()[-1]) == (code == 0)
    assert ("sudo apt-get install libosmesa6" in done.stderr) == (code == 1)
