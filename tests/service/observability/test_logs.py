"""Log records of the packages become JSON lines."""

from __future__ import annotations

import json
import logging

import pytest

from service.observability.logs import JsonLines


def test_a_record_is_one_line_with_its_traceback(capsys: pytest.CaptureFixture[str]):
    logger = logging.Logger("index.test")
    logger.addHandler(JsonLines())
    logger.warning("%s is slow", "disk")
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("no vectors")
    plain, failed = map(json.loads, capsys.readouterr().err.splitlines())
    assert (plain["level"], plain["logger"], plain["message"]) == ("warning", "index.test", "disk is slow")
    assert "traceback" not in plain
    assert failed["message"] == "no vectors"
    assert failed["traceback"].endswith("ValueError: broken")
