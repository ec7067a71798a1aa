"""What the commands share: options as frozen dataclasses, options that were renamed, and groups in a sensible order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from encoder_tools.io.columns import DocumentColumns
    from encoder_tools.io.rows import Reading

PATH = click.Path(path_type=Path)
MODEL = click.option("--model", default="default", show_default=True, help='Exported model folder, or "default".')
READING = (
    click.option("--split", default="train", show_default=True, help="Split to read, of a dataset with several."),
    click.option("--encoding", help="Encoding of text files.  [default: UTF-8, or UTF-16 by its byte order mark]"),
    click.option("--delimiter", help="Character between the cells of a CSV file.  [default: detected]"),
)
DOCUMENT_COLUMNS = (
    click.option("--text", default="text", show_default=True, help="Column of the texts."),
    click.option("--id", "identifier", default="id", show_default=True, help="Column of the ids.  [else: file:row]"),
    click.option("--keep", multiple=True, help="Column to keep as metadata; repeat it for several.  [default: all]"),
    *READING,
)


@dataclass(frozen=True)
class ColumnOptions:
    """Which columns of documents are what, and how their files are read."""

    text: str
    identifier: str
    keep: tuple[str, ...]
    split: str
    encoding: str | None
    delimiter: str | None

    @property
    def columns(self) -> DocumentColumns:
        """Of tables."""
        from encoder_tools.io.columns import DocumentColumns

        return DocumentColumns(self.text, self.identifier, self.keep or None)

    @property
    def reading(self) -> Reading:
        """Of files."""
        from encoder_tools.io.rows import Reading

        return Reading(self.split, self.encoding, self.delimiter)


_LABELS = (
    click.option(
        "--text", multiple=True, default=("text",), show_default=True, help="Column of the text; repeat it for several."
    ),
    click.option(
        "--label",
        multiple=True,
        default=("label",),
        show_default=True,
        help="Column of the label. Several are levels (hierarchical) or flags (multi-label).",
    ),
    click.option("--separator", default=",", show_default=True, help="Character between several labels in one cell."),
    click.option("--labels-as-text", is_flag=True, help="Take labels as they are written, numbers included."),
    click.option("--label-lists", is_flag=True, help="Read cells such as ['a', 'b'] as lists of labels."),
    *READING,
)


@dataclass(frozen=True)
class LabelOptions:
    """Which columns of labeled texts hold what, and how their file is written."""

    text: tuple[str, ...]
    label: tuple[str, ...]
    separator: str
    labels_as_text: bool
    label_lists: bool
    split: str
    encoding: str | None
    delimiter: str | None


def label_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of :class:`LabelOptions`, as the argument ``labels``."""
    return with_options(_LABELS)(gathered(LabelOptions, "labels")(function))


def with_options(options: tuple[Callable[..., Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command several options, in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def gathered(kind: type[Any], name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Pass the options that are fields of a dataclass as one argument ``name``."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = {field.name for field in fields(kind)}

        @wraps(function)
        def run(**given: Any) -> None:
            values = {key: given.pop(key) for key in list(given) if key in own}
            function(**given, **{name: kind(**values)})

        return run

    return decorate


class RenamingCommand(click.Command):
    """A command that takes options by their earlier names too, with a warning.

    :param renamed: new names by earlier ones.
    """

    def __init__(self, *arguments: Any, renamed: Mapping[str, str], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.renamed = dict(renamed)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Replace earlier names before click sees them; behind ``--`` there are none."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*map(self._current, args[:end]), *args[end:]])

    def _current(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        if name not in self.renamed:
            return argument
        warn_of_rename(name, self.renamed[name])
        return self.renamed[name] + equals + value


def warn_of_rename(earlier: str, current: str) -> None:
    """Tell people, not programs: a deprecated name works as before."""
    click.echo(f"warning: {earlier} is called {current} now; the earlier name works until version 0.2", err=True)


class OrderedGroup(click.Group):
    """A group that lists its commands in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of their definition."""
        return list(self.commands)
