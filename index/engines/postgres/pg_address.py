"""Addresses of collections in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from index.engines.collection_name import collection_name


@dataclass(frozen=True)
class PgAddress:
    """A collection in a database.

    :ivar conninfo: of the database, with its password if it has one.
    :ivar collection: its name.
    """

    conninfo: str
    collection: str

    @classmethod
    def read(cls, address: str) -> PgAddress:
        """Read ``postgresql://user:password@host:port/database?collection=NAME``, with libpq's options if any.

        :raises InputError: if it names no collection.
        """
        parts = urlsplit(address)
        options = parse_qsl(parts.query, keep_blank_values=True)
        names = [value for key, value in options if key == "collection"]
        name = collection_name(names, redacted(address), "postgresql://user@host/database?collection=NAME")
        rest = [(key, value) for key, value in options if key != "collection"]
        query = urlencode(rest, quote_via=quote, safe="/")
        return cls(_joined("postgresql", parts.netloc, parts.path, query), name)

    @property
    def schema(self) -> str:
        """The schema of its tables."""
        return f"encoder_tools:{self.collection}"

    def __str__(self) -> str:
        return f"{redacted(self.conninfo)} collection {self.collection!r}"


def redacted(address: str) -> str:
    """An address without its password."""
    parts = urlsplit(address)
    user, separator, host = parts.netloc.rpartition("@")
    place = f"{user.partition(':')[0]}{separator}{host}"
    options = [(key, value) for key, value in parse_qsl(parts.query) if "password" not in key]
    return _joined(parts.scheme, place, parts.path, urlencode(options, safe="/", quote_via=quote))


def _joined(scheme: str, place: str, path: str, query: str) -> str:
    """As urlunsplit, which leaves the slashes before a host out where there is none."""
    return f"{scheme}://{place}{path}" + (f"?{query}" if query else "")
