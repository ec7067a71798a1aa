"""``encoder-tools doctor``: what this machine is and can do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from service.workflows.doctor import Diagnosis


@click.command("doctor")
@click.argument("model", default="default")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for bug reports.")
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=10.0, show_default=True, help="For the probe; 0: none."
)
def command(model: str, as_json: bool, seconds: float) -> None:
    """Describe this machine: processor, memory, GPUs, providers that load, versions; and measure MODEL.

    Add its output to a bug report.
    """
    from service.workflows.doctor import diagnose

    found = diagnose(model, seconds=seconds)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Diagnosis) -> list[str]:
    from encoder_tools.machine.room import gigabytes

    processor = found.processor
    lines = [
        f"encoder-tools {found.encoder_tools}, Python {found.python}, {found.system}",
        f"processor    {processor.name}: {processor.allowed} of {processor.cores} cores may be used",
        f"{'':<12} {', '.join(processor.features) or 'features unknown'}; int8 is "
        f"{'fast' if processor.multiplies_int8_fast else 'not faster'} here",
        f"memory       {'unknown amount' if found.memory is None else gigabytes(found.memory)} available",
        f"disk         {gigabytes(found.disk)} free in the current folder",
        *(f"gpu          {gpu.name}, {gpu.memory}, driver {gpu.driver}" for gpu in found.gpus),
    ]
    if not found.gpus:
        lines.append(f"gpu          none: {found.no_gpu}")
    for state in found.providers:
        lines.append(f"provider     {state.name}: {'loads' if state.loads else state.reason}")
    lines.append("packages     " + ", ".join(f"{name} {version}" for name, version in found.packages.items()))
    for speed in found.speeds:
        threads = "1 thread" if speed.threads == 1 else f"{speed.threads} threads"
        lines.append(f"measured     {speed.variant}, {threads}: {speed.texts_per_second:,.0f} texts/s of 100 tokens")
    if found.recommended is not None:
        lines.append(f"recommended  --variant {found.recommended.variant} --threads {found.recommended.threads}")
    if found.automatic is not None:
        lines.append(f"auto         --variant auto takes {found.automatic.variant}: {found.automatic.reason}")
    lines += [f"problem      {problem}" for problem in found.problems]
    return lines
