"""``encoder-tools head``: classifiers on a model's vectors, fitted, measured, looked at and used."""

from __future__ import annotations

import click

from service.cli.head_commands import fit, fuse, measure, predict
from service.cli.options import OrderedGroup


@click.group("head", cls=OrderedGroup)
def command() -> None:
    """Fit classifiers (heads) to labeled texts, measure them, and predict labels with them."""


for one in (fit.fit, fit.describe, measure.evaluate, measure.report, predict.predict, fuse.fuse):
    command.add_command(one)
