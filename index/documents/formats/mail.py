"""E-mail: a message (.eml), or the messages of a folder of mail (.mbox), each as a page."""

from __future__ import annotations

import email
import mailbox
from contextlib import closing, suppress
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from index.documents.formats.extracted import Extracted, UnreadableError, cleaned, described, pages_of
from index.documents.html import read_html

_HEADERS = ("subject", "from", "to", "date")


def read_message(path: Path) -> Extracted:
    """The text of kind "text", its headers first; attachments are named in the metadata, and not read.

    :raises UnreadableError: if it is no message.
    """
    message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
    if not any(message.get(name) for name in _HEADERS):
        raise UnreadableError("it is no e-mail (it has no subject, no sender and no date)")
    metadata: dict[str, Any] = described((name, message.get(name)) for name in _HEADERS)
    with suppress(AttributeError, ValueError):  # the date is text if it is none
        metadata["date"] = message["date"].datetime.isoformat()
    attachments = [cleaned(part.get_filename() or part.get_content_type()) for part in message.iter_attachments()]
    if attachments:
        metadata["attachments"] = attachments
    return Extracted(cleaned(_text(message)), metadata)


def read_mailbox(path: Path) -> Extracted:
    """The text of kind "pages".

    :raises UnreadableError: if there is no message in it.
    """
    with closing(mailbox.mbox(path, create=False)) as box:
        messages = [email.message_from_bytes(box.get_bytes(key), policy=policy.default) for key in box.keys()]
    if not messages:
        raise UnreadableError("there is no message in it")
    return Extracted(pages_of(map(_text, messages)), {"pages": len(messages)})


def _text(message: EmailMessage) -> str:
    headers = [f"{name.capitalize()}: {message[name]}" for name in _HEADERS if message.get(name)]
    body = message.get_body(("plain", "html"))
    if body is None:
        return "\n".join(headers)
    try:
        content = str(body.get_content())
    except (LookupError, ValueError):  # a charset that nobody knows
        payload = body.get_payload(decode=True)
        content = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    text = read_html(content).text if body.get_content_subtype() == "html" else content
    return "\n".join([*headers, "", text.strip()])
