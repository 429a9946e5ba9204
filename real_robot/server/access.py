"""Who may ask the policy, over which connection: bearer tokens, TLS, addresses of this machine."""

from __future__ import annotations

import hmac
import ipaddress
import os
import secrets
import ssl
import stat
from pathlib import Path

__all__ = [
    "TOKEN_VARIABLE",
    "AccessError",
    "Token",
    "client_tls",
    "is_loopback",
    "make_token",
    "read_token",
    "server_tls",
]

TOKEN_VARIABLE = "EQUIDIFF_TOKEN"
_SHORTEST = 32  # characters; 24 random bytes in base64


class AccessError(ValueError):
    """A token, certificate or address that would leave the policy open; the message says the fix."""


class Token:
    """A shared secret that no message, log or repr shows.

    >>> Token("x" * 32)
    Token(hidden)
    """

    __slots__ = ("_header",)

    def __init__(self, value: str) -> None:
        if len(value) < _SHORTEST or not all("!" <= c <= "~" for c in value):
            raise AccessError(
                f"token: expected at least {_SHORTEST} characters of ASCII without spaces, got {len(value)}; "
                "make one: python -m real_robot.server make_token=FILE"
            )
        self._header = f"Bearer {value}"

    def __repr__(self) -> str:
        return "Token(hidden)"

    def header(self) -> dict[str, str]:
        """The HTTP header a client sends."""
        return {"Authorization": self._header}

    def matches(self, given: str | None) -> bool:
        """Whether an Authorization header holds this token; takes as long for a near miss as for any other."""
        return hmac.compare_digest((given or "").encode("utf-8", "surrogateescape"), self._header.encode())


def make_token(path: Path) -> None:
    """Write a new random token to `path`, readable by its owner alone. AccessError if the file exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        raise AccessError(f"{path}: exists already; delete it first to make a new token") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


def read_token(path: Path | None = None) -> Token:
    """The token in a file of mode 0600, or, without a file, in the environment variable EQUIDIFF_TOKEN."""
    if path is None:
        value = os.environ.get(TOKEN_VARIABLE)
        if not value:
            raise AccessError(
                f"no token: set {TOKEN_VARIABLE}, or token_file=FILE with a file made by "
                "python -m real_robot.server make_token=FILE"
            )
        return Token(value.strip())
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                raise AccessError(f"{path}: others may read the token (mode {mode & 0o777:04o}); chmod 600 {path}")
            return Token(file.read(4096).strip())
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"{path}: no readable token ({error})") from error


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS for a server from PEM files; the key may not be readable by everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if key.stat().st_mode & 0o007:
            raise AccessError(f"{key}: everybody may read the key; chmod o-rwx {key}")
        context.load_cert_chain(certificate, key)
    except OSError as error:  # SSLError, too
        raise AccessError(f"{certificate}, {key}: no certificate with its key ({error})") from error
    return context


def client_tls(ca: Path | None = None) -> ssl.SSLContext:
    """TLS for a client that verifies the server's name and certificate; ca: PEM file, None for the system's own."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise AccessError(f"{ca}: no certificate of an authority ({error})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("robot.lab")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
