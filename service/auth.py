"""Authentication: keys, and the hosts and origins that requests may be for and from."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from encoder_tools.errors import InputError
from service.errors import ApiError

OPEN = frozenset({"/", "/health", "/ready"})
"""Paths that want no key: whether the server lives, and the page, which asks for one."""
_SHORTEST = 8
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Rights(NamedTuple):
    """What a key may do, and a name for it that tells nothing."""

    tenant: str
    may_write: bool


@dataclass(frozen=True)
class Keys:
    """Keys by their SHA-256: those themselves are not kept."""

    rights: dict[bytes, Rights] = field(default_factory=dict)

    @classmethod
    def of(cls, write: Iterable[str], read: Iterable[str]) -> Keys:
        """From keys that may change something, and keys that may not.

        :raises InputError: if one is short, not ASCII, or given twice.
        """
        rights_by_digest: dict[bytes, Rights] = {}
        for key, may_write in [(key, True) for key in write] + [(key, False) for key in read]:
            if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise InputError(f"A key must have {_SHORTEST} printable ASCII letters or more, and no spaces.")
            digest = _digest(key)
            if digest in rights_by_digest:
                raise InputError("The same key was given twice. Give each its own.")
            rights_by_digest[digest] = Rights(f"key {digest.hex()[:8]}", may_write)
        return cls(rights_by_digest)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.rights)

    def check(self, headers: Mapping[str, str]) -> Rights:
        """The rights of the key that a request brings as ``Authorization: Bearer`` or ``api-key``.

        Every key is compared, each in constant time.

        :raises ApiError: 401 if there is none, or it is wrong.
        """
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip() if scheme.lower() == "bearer" else headers.get("api-key", headers.get("x-api-key", ""))
        digest, granted = _digest(key), None
        for known, rights in self.rights.items():
            if hmac.compare_digest(known, digest):
                granted = rights
        if granted is None:
            wrong = "The key is wrong." if key else "There is no key."
            raise ApiError(
                401,
                f"{wrong} Send the header Authorization: Bearer KEY, with one that the server was started with.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return granted


@dataclass(frozen=True)
class Access:
    """The rules of one server.

    :ivar hosts: names that requests may be for; empty allows all. On the loopback address it keeps pages of other
        sites from reaching the server through a name that they point to it (DNS rebinding).
    :ivar origins: pages of other sites that may call it.
    """

    keys: Keys = field(default_factory=Keys)
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> Rights | None:
        """The rights of a request; None where there are no keys.

        :raises ApiError: 401, 403 or 421 if it may not be.
        """
        self._check_host(headers.get("host", ""))
        if method not in _READING:
            self._check_origin(headers)
        preflight = method == "OPTIONS" and headers.get("origin") in self.origins  # browsers send no key with it
        if not self.keys or preflight or ((path in OPEN or path.startswith("/page/")) and method in _READING):
            return None
        return self.keys.check(headers)

    def _check_host(self, host: str) -> None:
        if self.hosts and not _is_loopback(host) and _name_of(host) not in self.hosts:
            raise ApiError(
                421,
                f"This server answers on the loopback address only, not for the host {host[:100]!r}. "
                "Name the host with --allow-host if it is meant.",
                code="wrong_host",
            )

    def _check_origin(self, headers: Mapping[str, str]) -> None:
        """Browsers say which page sends a request; those of other sites may not change or compute anything here."""
        origin = headers.get("origin")
        if origin is None or origin in self.origins or urlsplit(origin).netloc == headers.get("host", ""):
            return
        raise ApiError(403, f"Pages of {origin[:100]!r} may not call this server.", code="wrong_origin")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _name_of(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


@lru_cache(64)  # each request names a host, nearly always the same one
def _is_loopback(host: str) -> bool:
    name = _name_of(host)
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
