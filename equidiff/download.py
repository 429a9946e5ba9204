"""One file of a data set on the Hugging Face hub: fetched in parts that survive a kill, verified, then named."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from equidiff.config import did_you_mean
from equidiff.results import write_json

__all__ = ["DownloadError", "Fetched", "HubFile", "endpoint_in_use", "fetch"]

_DEFAULT_ENDPOINT = "https://huggingface.co"
_SPARE = 64 * 2**20  # bytes that stay free on the disk
_BLOCK = 4 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DownloadError(RuntimeError):
    """A file could not be fetched; the message says why, what is kept and what to do."""


@dataclass(frozen=True)
class HubFile:
    """A file of a data set: repo "owner/name", path in it, revision (branch, tag or commit)."""

    repo: str
    path: str
    revision: str = "main"


@dataclass(frozen=True)
class Fetched:
    """Where the file is. received: bytes of this call; kept: bytes an earlier, interrupted call had left."""

    path: Path
    commit: str
    sha256: str
    received: int
    kept: int = 0


def endpoint_in_use() -> str:
    """Address of the hub: the environment variable HF_ENDPOINT (a mirror), else the public one."""
    return (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")


def fetch(file: HubFile, target: str | os.PathLike[str], *, check: bool = False, progress: bool = True) -> Fetched:
    """Fetch `file` to `target`, or do nothing if it is there, verified and unchanged since.

    What was received is kept beside `target` under a hidden name; a later call goes on from there. `target` appears
    when its checksum is that of the hub. An existing file is never replaced. One process fetches, others wait.
    check: ask the hub and read the file again even if it was verified before. Raises DownloadError.
    """
    from filelock import FileLock, Timeout

    path = Path(target)
    with _explained(file, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            tqdm.write(f"{path}: another process is fetching it; waiting")
            lock.acquire()
        try:
            return _fetch(file, path, check, progress)
        finally:
            lock.release()


def _fetch(file: HubFile, path: Path, check: bool, progress: bool) -> Fetched:
    record = _read_record(path, file)
    if record is not None and not check:
        return Fetched(path, record["commit"], record["sha256"], 0)
    about = _look_up(file)
    if path.exists():
        sha256 = _verified(path, about.etag, progress)
        if sha256 is None:
            raise DownloadError(
                f"{path}: exists, but is not what {file.repo} has as {file.path} ({about.commit[:8]}). It is left as "
                "it is: move it away, or choose another place with out=..."
            )
        return _record(path, file, about.commit, sha256, 0, 0)
    part = path.with_name(f".{path.name}.{about.etag[:12]}.part")
    for other in path.parent.glob(f".{path.name}.*.part"):
        if other != part:  # of a version that the hub has replaced
            other.unlink()
    kept = part.stat().st_size if part.exists() else 0
    if about.size is not None and kept > about.size:
        part.unlink()
        kept = 0
    _check_space(path.parent, about.size, kept)
    _receive(file, about, part, kept, path.name, progress)
    sha256 = _verified(part, about.etag, progress)
    if sha256 is None:
        size = part.stat().st_size
        part.unlink()
        raise DownloadError(
            f"{path}: the {size} bytes that arrived do not have the checksum of the hub ({about.etag}); they were "
            "damaged on the way, or kept from an interrupted call and damaged since. Nothing was kept: start again"
        )
    received = part.stat().st_size - kept
    part.replace(path)
    return _record(path, file, about.commit, sha256, received, kept)


# -- the hub ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _About:
    """What the hub says of a file. etag: sha256 of a large file, git's hash of a small one."""

    commit: str
    etag: str
    size: int | None


def _look_up(file: HubFile) -> _About:
    import huggingface_hub as hub
    from huggingface_hub import errors

    endpoint = endpoint_in_use()
    url = hub.hf_hub_url(file.repo, file.path, repo_type="dataset", revision=file.revision, endpoint=endpoint)
    try:
        about = hub.get_hf_file_metadata(url, token=False, endpoint=endpoint)
    except errors.RemoteEntryNotFoundError as error:
        raise DownloadError(f"{endpoint}: {file.repo} has no file {file.path!r}{_others(file, endpoint)}") from error
    if not about.commit_hash or not about.etag:
        raise DownloadError(
            f"{url}: the answer is not that of a Hugging Face hub (no commit or no checksum in it); "
            "look at HF_ENDPOINT and at the proxy"
        )
    return _About(about.commit_hash, about.etag, about.size)


def _others(file: HubFile, endpoint: str) -> str:
    """What there is instead, as the end of a sentence; empty if the hub does not tell."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        listed = hub.HfApi(endpoint, token=False).list_repo_files(
            file.repo, repo_type="dataset", revision=file.revision
        )
    except (errors.HfHubHTTPError, OSError):
        return ""
    suffix = Path(file.path).suffix
    files = sorted(name for name in listed if name.endswith(suffix))
    return f"{did_you_mean(file.path, files)}; there are: {', '.join(files) or 'none'}"


def _receive(file: HubFile, about: _About, part: Path, kept: int, name: str, progress: bool) -> None:
    import huggingface_hub as hub
    from huggingface_hub.file_download import http_get

    # hf_hub_download gives every call a temporary file of its own and throws it away when it fails: no resuming
    endpoint = endpoint_in_use()
    url = hub.hf_hub_url(file.repo, file.path, repo_type="dataset", revision=about.commit, endpoint=endpoint)
    headers = {**hub.utils.build_hf_headers(token=False), "Accept-Encoding": "identity"}
    bar: Any = partial(tqdm, disable=not progress)
    with part.open("ab") as out:
        try:
            http_get(
                url,
                out,
                resume_size=kept,
                headers=headers,
                expected_size=about.size,
                displayed_filename=name,
                tqdm_class=bar,
            )
        finally:
            out.flush()
            with contextlib.suppress(OSError):  # a full disk has already been reported
                os.fsync(out.fileno())


@contextlib.contextmanager
def _explained(file: HubFile, path: Path) -> Iterator[None]:
    """Turns what the network, the hub and the disk raise into a DownloadError."""
    try:
        import httpx2
        from huggingface_hub import errors
    except ImportError as error:
        raise DownloadError(
            f"downloads need the extra `train` (huggingface_hub 2.4): pip install 'equidiff[train]' ({error})"
        ) from error
    endpoint = endpoint_in_use()
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{file.path}: HF_HUB_OFFLINE is set, so nothing is fetched, and {path} is not there or has not been "
            f"verified. {_by_hand(file, path)}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(f"{endpoint}: {file.repo} has no revision {file.revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise DownloadError(
            f"{endpoint}: there is no public data set {file.repo!r}; look at repo=... and at HF_ENDPOINT"
        ) from error
    except (httpx2.HTTPError, ConnectionError) as error:
        raise DownloadError(
            f"{file.path}: {endpoint} did not deliver it ({_first_line(error)}). {_left(path)}Call again when "
            f"the network is back, or set HF_ENDPOINT to a mirror. {_by_hand(file, path)}"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise DownloadError(f"{path}: the disk is full. {_left(path)}Make room and call again") from error
        raise DownloadError(f"{path}: {_first_line(error)}. {_left(path)}Call again to go on") from error


def _left(path: Path) -> str:
    kept = sum(part.stat().st_size for part in path.parent.glob(f".{path.name}.*.part"))
    return f"{kept / 1e6:.1f} MB are kept and will not be fetched again. " if kept else ""


def _by_hand(file: HubFile, path: Path) -> str:
    address = f"{_DEFAULT_ENDPOINT}/datasets/{file.repo}/resolve/{file.revision}/{file.path}"
    return f"Or fetch {address} on another machine, copy it to {path} and call again: it is then verified"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# -- the disk --------------------------------------------------------------------------------------


def _check_space(folder: Path, size: int | None, kept: int) -> None:
    if size is None:
        return
    free, needed = shutil.disk_usage(folder).free, size - kept + _SPARE
    if free < needed:
        raise DownloadError(
            f"{folder}: {free / 1e9:.2f} GB free, but {needed / 1e9:.2f} GB are needed; "
            "make room, or choose another disk with out=..."
        )


def _verified(path: Path, etag: str, progress: bool) -> str | None:
    """sha256 of the file if it is the one with this etag, else None."""
    size = path.stat().st_size
    sha256 = hashlib.sha256()
    git = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)  # small files have git's hash as their etag
    large = re.fullmatch("[0-9a-f]{64}", etag) is not None
    hidden = not progress or size < 256 * 2**20
    with (
        path.open("rb") as file,
        tqdm(total=size, unit="B", unit_scale=True, desc=f"verifying {path.name}", disable=hidden) as bar,
    ):
        while block := file.read(_BLOCK):
            sha256.update(block)
            if not large:
                git.update(block)
            bar.update(len(block))
    found = sha256.hexdigest() if large else git.hexdigest()
    return sha256.hexdigest() if found == etag else None


def _record_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.verified.json")


def _record(path: Path, file: HubFile, commit: str, sha256: str, received: int, kept: int) -> Fetched:
    """Remember that `path` was verified, so that it need not be read again."""
    state = path.stat()
    tree = {
        "repo": file.repo,
        "path": file.path,
        "revision": file.revision,
        "commit": commit,
        "sha256": sha256,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
    }
    write_json(_record_path(path), tree)
    return Fetched(path, commit, sha256, received, kept)


def _read_record(path: Path, file: HubFile) -> Mapping[str, Any] | None:
    """What `_record` wrote, if it is about this file and the file has not changed since."""
    try:
        tree = json.loads(_record_path(path).read_text())
        state = path.stat()
    except (OSError, ValueError):
        return None
    wanted = {
        "repo": file.repo,
        "path": file.path,
        "revision": file.revision,
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
    }
    same = isinstance(tree, dict) and all(tree.get(key) == value for key, value in wanted.items())
    return tree if same and {"commit", "sha256"} <= set(tree) else None
