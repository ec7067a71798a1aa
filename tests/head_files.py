"""Labeled texts in files, and the command line over them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from encoder_tools.errors import EncoderToolsError
from service.cli import cli

SUBJECTS = {
    "card": "my card was stolen|the card is blocked|i lost my bank card|when does my card arrive|freeze my card please",
    "loan": "i want to borrow money|what a loan costs|can i repay it early|apply for a mortgage|my loan was refused",
    "weather": "will it rain tomorrow|how hot is it today|is there snow up there|the forecast for sunday|storm warning",
    "music": "play some jazz|turn the volume up|who sings this|skip this track|add it to my playlist",
}


FILLERS = ("", "hello, ", "please tell me: ", "one question, ", "urgent: ", "hi there, ")


def rows() -> list[dict[str, str]]:
    return [
        {"text": filler + text, "label": label}
        for label, texts in SUBJECTS.items()
        for text in texts.split("|")
        for filler in FILLERS
    ]


def write_csv(path: Path, content: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(content[0]))
        writer.writeheader()
        writer.writerows(content)
    return path


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit | EncoderToolsError):
        raise result.exception
    return result
