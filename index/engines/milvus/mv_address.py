"""Addresses of collections in Milvus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from encoder_tools.errors import InputError
from index.engines.collection_name import collection_name

_PORTS = {"milvus": 19530, "https": 443}


@dataclass(frozen=True)
class MvAddress:
    """A collection in a Milvus database.

    :ivar uri: of the server, as its client takes it.
    :ivar token: a key, or ``user:password``; empty for none.
    :ivar database: its name; empty for the server's default.
    :ivar collection: the collection's name.
    """

    uri: str
    token: str
    database: str
    collection: str

    @classmethod
    def read(cls, address: str) -> MvAddress:
        """Read ``milvus://user:password@host:port/database?collection=NAME``, or ``https://host?collection=NAME``.

        A key is given as ``&token=KEY``.

        :raises InputError: if it names no host or no collection, or has other options.
        """
        try:
            parts = urlsplit(address)
            port = parts.port or _PORTS[parts.scheme]
            options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise InputError(f"The address of the collection in Milvus cannot be read: {error}.") from error
        names, tokens = options.pop("collection", []), options.pop("token", [])
        user = parts.netloc.rpartition("@")[0]
        where = f"{parts.scheme}://{parts.hostname or ''}:{port}{parts.path}"
        if options or len(tokens) > 1 or (user and tokens):
            raise InputError(
                f"{where} has the options {sorted(options)}, expected collection, and one token or a user and password."
            )
        example = "milvus://user:password@host:19530/database?collection=NAME"
        if not parts.hostname:
            raise InputError(f"{where} names no host, expected one: {example}.")
        name = collection_name(names, where, example)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        protocol = "https" if parts.scheme == "https" else "http"
        token = unquote(user) if user else "".join(tokens)
        return cls(f"{protocol}://{host}:{port}", token, unquote(parts.path.strip("/")), name)

    @property
    def prefix(self) -> str:
        """With which the names of its collections in Milvus begin: letters, digits and underscores."""
        return "encoder_tools_" + re.sub(r"[^A-Za-z0-9]", lambda match: f"_{ord(match[0]):02x}", self.collection)

    def __str__(self) -> str:
        scheme = "https" if self.uri.startswith("https") else "milvus"
        server = self.uri.partition("://")[2] + (f"/{self.database}" if self.database else "")
        return f"{scheme}://{server} collection {self.collection!r}"
