"""Downloads from a hub that breaks in every way it can."""

from __future__ import annotations

import errno
import hashlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import hub_server
import huggingface_hub as hub_library
import numpy as np
import pytest
from huggingface_hub import file_download
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from equidiff.config import ConfigError
from equidiff.data import DataError, DemoWriter
from equidiff.data.summary import summary
from equidiff.download import DownloadError, HubFile, fetch
from equidiff.published_data import published_path

ROOT = Path(__file__).parents[1]
STACK = HubFile(hub_server.REPO, "core/stack_d1.hdf5")
BLOCK = 65536
CONTENT = np.random.default_rng(0).integers(0, 256, 40 * BLOCK + 123, dtype=np.uint8).tobytes()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_server.Hub]:
    files = {"core/stack_d1.hdf5": CONTENT, "core/square_d2.hdf5": b"another", "README.md": b"# MimicGen\n"}
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(file_download.constants, "DOWNLOAD_CHUNK_SIZE", BLOCK)  # 10 MB: more than the whole test file
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)  # between its tries
    with hub_server.running(files) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running
        hub_library.close_session()


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


def test_a_file_is_fetched_once(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "stack_d1.hdf5"
    got = fetch(STACK, target, progress=False)
    assert target.read_bytes() == CONTENT
    assert (got.path, got.commit, got.received, got.kept) == (target, hub_server.COMMIT, len(CONTENT), 0)
    assert got.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert hub.transfers == [""]
    assert not parts(target.parent)
    asked = len(hub.requests)
    again = fetch(STACK, target, progress=False)
    assert (again.received, again.sha256, len(hub.requests)) == (0, got.sha256, asked)  # the hub is not even asked
    checked = fetch(STACK, target, check=True, progress=False)
    assert (checked.received, hub.transfers) == (0, [""])
    assert len(hub.requests) > asked


def test_an_interrupted_download_goes_on(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "stack_d1.hdf5"
    hub.cut = 10 * BLOCK
    with pytest.raises(DownloadError, match=r"did not deliver it .* 0\.7 MB are kept"):
        fetch(STACK, target, progress=False)
    assert not target.exists()
    (part,) = parts(tmp_path)
    kept = part.stat().st_size
    assert part.read_bytes() == CONTENT[:kept]
    assert 9 * BLOCK <= kept <= 10 * BLOCK
    hub.cut, hub.sent = None, 0
    got = fetch(STACK, target, progress=False)
    assert target.read_bytes() == CONTENT
    assert hub.transfers[-1] == f"bytes={kept}-"
    assert (got.kept, got.received, hub.sent) == (kept, len(CONTENT) - kept, len(CONTENT) - kept)
    assert not parts(tmp_path)


def test_a_killed_script_goes_on(hub: hub_server.Hub, tmp_path: Path) -> None:
    hub.files["core/stack_d1.hdf5"] = content = CONTENT * 12  # over 10 MB, the library's block
    hub.pace = 0.003
    target = tmp_path / "stack_d1.hdf5"
    code = "import sys; from equidiff.download import HubFile, fetch; fetch(HubFile(*sys.argv[1:3]), sys.argv[3])"
    command = [sys.executable, "-c", code, STACK.repo, STACK.path, str(target)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size for p in parts(tmp_path)) and time.monotonic() < deadline:
            threading.Event().wait(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    (part,) = parts(tmp_path)
    kept = part.stat().st_size
    assert 0 < kept < len(content)
    hub.pace = 0.0
    assert fetch(STACK, target, progress=False).kept == kept
    assert target.read_bytes() == content


def test_a_hub_without_ranges_is_asked_for_the_whole_file(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "stack_d1.hdf5"
    hub.cut = 3 * BLOCK
    with pytest.raises(DownloadError):
        fetch(STACK, target, progress=False)
    hub.cut, hub.ranges = None, False
    fetch(STACK, target, progress=False)
    assert target.read_bytes() == CONTENT


def test_damaged_bytes_never_get_the_name(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "stack_d1.hdf5"
    hub.damage = True
    with pytest.raises(DownloadError, match="do not have the checksum of the hub"):
        fetch(STACK, target, progress=False)
    assert not target.exists()
    assert not parts(tmp_path)
    hub.damage = False
    fetch(STACK, target, progress=False)
    assert target.read_bytes() == CONTENT


def test_a_damaged_part_is_found(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "stack_d1.hdf5"
    hub.cut = 5 * BLOCK
    with pytest.raises(DownloadError):
        fetch(STACK, target, progress=False)
    hub.cut = None
    (part,) = parts(tmp_path)
    part.write_bytes(b"\0" + part.read_bytes()[1:])
    with pytest.raises(DownloadError, match="kept from an interrupted call and damaged since"):
        fetch(STACK, target, progress=False)
    assert not target.exists()
    part.write_bytes(CONTENT + b"more")  # longer than the file
    assert fetch(STACK, target, progress=False).kept == 0
    assert target.read_bytes() == CONTENT


def test_an_existing_file_is_verified_and_never_replaced(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "stack_d1.hdf5"
    target.write_bytes(CONTENT)  # copied by hand
    assert fetch(STACK, target, progress=False).received == 0
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"exists, but is not what .* It is left as it is"):
        fetch(STACK, target, progress=False)
    assert target.read_bytes() == b"mine"
    assert hub.transfers == []


def test_a_small_file_has_gits_hash(hub: hub_server.Hub, tmp_path: Path) -> None:
    readme = HubFile(hub_server.REPO, "README.md")
    got = fetch(readme, tmp_path / "README.md", progress=False)
    assert got.path.read_bytes() == b"# MimicGen\n"
    assert got.sha256 == hashlib.sha256(b"# MimicGen\n").hexdigest()
    hub.damage = True
    with pytest.raises(DownloadError, match="checksum"):
        fetch(readme, tmp_path / "again.md", progress=False)


def test_what_is_not_there_is_said(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "x.hdf5"
    with pytest.raises(
        DownloadError, match=r"no file 'core/stack_d9\.hdf5'; did you mean 'core/stack_d1\.hdf5'\?"
    ) as error:
        fetch(HubFile(hub_server.REPO, "core/stack_d9.hdf5"), target)
    assert str(error.value).endswith("; there are: core/square_d2.hdf5, core/stack_d1.hdf5")
    with pytest.raises(DownloadError, match="no public data set 'nobody/nothing'"):
        fetch(HubFile("nobody/nothing", "core/stack_d1.hdf5"), target)
    with pytest.raises(DownloadError, match="no revision 'v9'"):
        fetch(HubFile(hub_server.REPO, "core/stack_d1.hdf5", "v9"), target)
    assert not target.exists()


def test_no_network(hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "stack_d1.hdf5"
    hub.status = 503
    with pytest.raises(DownloadError, match=r"did not deliver it .*set HF_ENDPOINT to a mirror"):
        fetch(STACK, target)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(DownloadError, match=r"http://127\.0\.0\.1:9 did not deliver it .*copy it to .*stack_d1\.hdf5"):
        fetch(STACK, target)
    monkeypatch.setattr(hub_library.constants, "HF_HUB_OFFLINE", True)
    hub_library.close_session()
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE is set"):
        fetch(STACK, target)
    assert not target.exists()


def test_no_hub_at_the_endpoint(hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.storage.replace("localhost", "127.0.0.1"))
    monkeypatch.setattr(hub_server, "COMMIT", "")
    with pytest.raises(DownloadError, match="the answer is not that of a Hugging Face hub"):
        fetch(HubFile(hub_server.REPO, "README.md"), tmp_path / "x")


def test_a_verified_file_needs_no_network(hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "stack_d1.hdf5"
    fetch(STACK, target, progress=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch(STACK, target).received == 0
    os.utime(target, ns=(1, 1))  # changed since: not to be trusted
    with pytest.raises(DownloadError, match="did not deliver it"):
        fetch(STACK, target)


def test_a_full_disk(hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, usage = tmp_path / "stack_d1.hdf5", namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 2**20))
        with pytest.raises(DownloadError, match=r"0\.00 GB free, but 0\.07 GB are needed"):
            fetch(STACK, target)
    assert hub.transfers == []

    def until_full(url: str, out: object, **settings: object) -> None:
        out.write(CONTENT[: 7 * BLOCK])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", until_full)
        with pytest.raises(DownloadError, match=r"the disk is full\. 0\.5 MB are kept"):
            fetch(STACK, target)
    assert not target.exists()
    assert fetch(STACK, target, progress=False).kept == 7 * BLOCK
    assert target.read_bytes() == CONTENT


def test_two_processes_fetch_once(hub: hub_server.Hub, tmp_path: Path) -> None:
    target, results = tmp_path / "stack_d1.hdf5", []
    threads = [
        threading.Thread(target=lambda: results.append(fetch(STACK, target, progress=False).received)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, len(CONTENT)]
    assert hub.transfers == [""]


def test_parts_of_a_version_that_was_replaced_are_removed(hub: hub_server.Hub, tmp_path: Path) -> None:
    target = tmp_path / "stack_d1.hdf5"
    hub.cut = 2 * BLOCK
    with pytest.raises(DownloadError):
        fetch(STACK, target, progress=False)
    hub.cut, hub.files["core/stack_d1.hdf5"] = None, CONTENT[::-1]
    assert fetch(STACK, target, progress=False).kept == 0
    assert target.read_bytes() == CONTENT[::-1]
    assert not parts(tmp_path)


@pytest.mark.parametrize(
    ("name", "collection", "path"),
    [
        ("stack_d1", None, "core/stack_d1.hdf5"),
        ("mug_cleanup_o1", None, "object/mug_cleanup_o1.hdf5"),
        ("stack_three_d1", "source", "source/stack_three.hdf5"),
        ("three_piece_assembly_d2", "core", "core/three_piece_assembly_d2.hdf5"),
    ],
)
def test_published_names(name: str, collection: str | None, path: str) -> None:
    assert published_path({"name": name, "package": "mimicgen"}, collection) == path


def test_tasks_without_a_published_file() -> None:
    with pytest.raises(ConfigError, match="task=lift: no data set is published for it"):
        published_path({"name": "lift", "package": "robosuite"})
    with pytest.raises(ConfigError, match=r"collection: expected one of .*; did you mean 'source'"):
        published_path({"name": "stack_d1", "package": "mimicgen"}, "sources")


def small_file(path: Path) -> Path:
    with DemoWriter(path, {"env_name": "Stack_D1"}) as writer:
        for seed in range(3):
            steps = 4 + seed
            writer.add(seed, np.zeros((steps, 5)), np.zeros((steps, 7)), obs={"robot0_eef_pos": np.ones((steps, 3))})
        return writer.finish(0.3)


def test_summary(tmp_path: Path) -> None:
    text = summary(small_file(tmp_path / "a.hdf5"), {"name": "lift", "env": "Lift"})
    assert text.splitlines() == [
        "3 demonstrations, 15 steps (4 to 6, median 5), environment Stack_D1",
        "note: the environment is not that of task=lift, Lift",
        "observations: robot0_eef_pos (3,)",
        "arrays: actions, states",
        "masks: train (2), valid (1)",
    ]


def script(task: str, out: Path) -> DictConfig:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("download", [f"task={task}", f"out={out}"])


def test_the_script(hub: hub_server.Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files["core/stack_d1.hdf5"] = small_file(tmp_path / "given.hdf5").read_bytes()
    main = runpy.run_path(str(ROOT / "scripts" / "download_data.py"))["main"]
    for words in ("fetched 0.0 MB", "there already, verified"):
        main(script("stack_d1", tmp_path / "got.hdf5"))
        said = capsys.readouterr().out
        assert words in said
        assert f"core/stack_d1.hdf5 of {hub_server.REPO} at {hub.endpoint}" in said
        assert "3 demonstrations, 15 steps" in said
    with pytest.raises(DataError, match="not a readable HDF5 file"):  # verified, but the hub has something else there
        main(script("square_d2", tmp_path / "other.hdf5"))


def test_mistakes_on_the_command_line(hub: hub_server.Hub, tmp_path: Path) -> None:
    command = [sys.executable, "scripts/download_data.py", "task=square_d1", f"out={tmp_path / 'other.hdf5'}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith(f"error: {hub.endpoint}: {hub_server.REPO} has no file 'core/square_d1.hdf5'")
    assert "Traceback" not in run.stderr
