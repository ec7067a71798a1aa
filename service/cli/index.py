"""``encoder-tools index``: collections of texts, built, searched and maintained."""

from __future__ import annotations

import click

from service.cli.index_commands import building, documents, finding, maintenance, moving, quality
from service.cli.options import OrderedGroup


@click.group("index", cls=OrderedGroup)
def command() -> None:
    """Build collections of texts, and search them by meaning, by words, or by both."""


for one in (
    *(building.build, building.add, finding.search),
    *(documents.list_, documents.get, documents.sample, documents.delete),
    *(maintenance.stats, quality.evaluate, quality.duplicates),
    *(
        maintenance.reembed,
        maintenance.compact,
        maintenance.prepare_rescoring,
        maintenance.verify,
        maintenance.backup,
        moving.copy,
        documents.export,
    ),
):
    command.add_command(one)
