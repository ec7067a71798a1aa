"""``encoder-tools``, the command line.

Each command is a file of this folder with a ``command``. They are imported only when they are run, and import
what they need inside the function, so that ``encoder-tools --help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

import encoder_tools
from encoder_tools.errors import EncoderToolsError, is_out_of_memory, one_line
from service.cli.options import warn_of_rename

SECTIONS: dict[str, dict[str, str]] = {
    "Make a model": {
        "extract": "Cut the encoder out of a checkpoint.",
        "train": "Train an embedding model on your pairs.",
        "distill": "Train a small model from a large one.",
        "mine": "Find hard negatives for pairs.",
        "soup": "Average several trained models.",
        "export": "Export a model to ONNX, verified.",
        "trim": "Cut a model's vocabulary to your texts.",
        "unpack": "Get float weights back from a packed export.",
    },
    "Measure a model": {
        "evaluate": "Measure retrieval, STS, classification.",
        "agreement": "Compare two models of one embedding space.",
        "info": "Describe an exported model.",
        "doctor": "Describe this machine, for bug reports.",
    },
    "Use a model": {
        "embed": "Embed very many texts into files.",
        "head": "Fit and use classifiers.",
        "index": "Build and search collections of texts.",
        "plan": "Estimate machines for many documents.",
        "serve": "Serve models over HTTP.",
        "demo": "Serve the shipped model and texts.",
    },
}
"""Commands by section, in the order in which they are used, with the line that ``--help`` shows."""
_SHORT_HELP = {name: line for commands in SECTIONS.values() for name, line in commands.items()}
COMMANDS = tuple(_SHORT_HELP)
_RENAMED = {"mark": "agreement"}
_REJECTED = 3  # done, but for rows that could not be used
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass
class Settings:
    """What holds for every command.

    :ivar debug: show tracebacks.
    """

    debug: bool = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 3 done but for rejected rows, 130 interrupted."""
    settings = Settings()
    _rejected_by("forget_rejected")
    try:
        code = cli.main(arguments, prog_name="encoder-tools", obj=settings, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if settings.debug:
            raise
        click.echo(f"error: {_message(error)}", err=True)
        sys.exit(1)
    code = code if isinstance(code, int) else 0
    rejected = _rejected_by("rejected_here") or {}
    for path, count in rejected.items():
        click.echo(f"{count} row{'' if count == 1 else 's'} rejected: the reasons are in {path}", err=True)
    sys.exit(_REJECTED if rejected and not code else code)


def _rejected_by(function: str) -> Any:
    """What a function of :mod:`encoder_tools.io.rejected_rows` gives, if any command has loaded that."""
    module = sys.modules.get("encoder_tools.io.rejected_rows")
    return None if module is None else getattr(module, function)()


class _LazyGroup(click.Group):
    """A group whose commands are modules, imported when looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of :data:`SECTIONS`."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, without importing any."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl(list(commands.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and give it the options that all have."""
        if cmd_name in _RENAMED:
            warn_of_rename(cmd_name, _RENAMED[cmd_name])
        name = _RENAMED.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"service.cli.{name}").command
        command.short_help = _SHORT_HELP[name]
        if _DEBUG not in command.params:
            command.params.append(_DEBUG)
        return command


def _remember_debug(ctx: click.Context, _: click.Parameter, debug: bool) -> None:
    if debug:
        ctx.ensure_object(Settings).debug = True


_DEBUG = click.Option(
    ["--debug"], is_flag=True, expose_value=False, callback=_remember_debug, help="Show tracebacks of errors."
)


@click.group(cls=_LazyGroup, params=[_DEBUG], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(encoder_tools.__version__, package_name="encoder-tools", message="%(package)s %(version)s")
def cli() -> None:
    """From an encoder-decoder checkpoint to a running embedding service.

    Extract or train a model, export it to ONNX, and serve it. To see it run at once: encoder-tools demo.
    """


def _message(error: Exception) -> str:
    """One line; an error that we did not foresee is named as one, with the way to its traceback."""
    if isinstance(error, EncoderToolsError):
        return one_line(error, most=10_000)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if is_out_of_memory(error):
        return "There is not enough memory. Close other programs, or use a smaller model or smaller batches."
    return (
        f"unforeseen {type(error).__name__}: {one_line(error)}. Run the command again with --debug to see where, and "
        "please report it."
    )
