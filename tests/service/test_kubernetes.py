"""The Kubernetes manifests: valid by Kubernetes' own schemas, and of one mind with the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from service.cli import cli
from service.config import read_config
from service.observability.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
OTHERS = {"Kustomization", "Cluster"}
"""Kinds that are not Kubernetes' own."""


def objects() -> list[dict[str, Any]]:
    return [one for file in FILES for one in yaml.safe_load_all(file.read_text("utf-8"))]


def of_kind(kind: str) -> dict[str, Any]:
    (one,) = [one for one in objects() if one["kind"] == kind]
    return one


@pytest.mark.parametrize("version", ["1.30.0", "1.34.0"])
def test_every_object_is_valid(version: str):
    validator = pytest.importorskip("kubernetes_validate")
    checked = [one["kind"] for one in objects() if one["kind"] not in OTHERS]
    for one in objects():
        if one["kind"] not in OTHERS:
            validator.validate(one, version, strict=True)
    assert sorted(checked) == ["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"]
    broken = of_kind("Deployment")
    broken["spec"]["replicaz"] = 2
    with pytest.raises(validator.ValidationError):
        validator.validate(broken, version, strict=True)


def test_the_kustomization_names_every_file():
    kustomization = of_kind("Kustomization")
    assert sorted(kustomization["resources"]) == [file.name for file in FILES if file.name != "kustomization.yaml"]
    assert kustomization["configMapGenerator"][0]["files"] == ["serve.toml"]
    (image,) = kustomization["images"]
    container = of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == image["name"]


def test_selectors_select():
    labels = of_kind("Deployment")["spec"]["template"]["metadata"]["labels"]
    for kind, at in (("Deployment", "matchLabels"), ("PodDisruptionBudget", "matchLabels")):
        assert of_kind(kind)["spec"]["selector"][at].items() <= labels.items()
    assert of_kind("Service")["spec"]["selector"].items() <= labels.items()
    assert (
        of_kind("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
        == of_kind("Deployment")["metadata"]["name"]
    )


def test_the_program_takes_what_the_manifests_say():
    config = read_config(FOLDER / "serve.toml")
    assert config.collections["handbook"].path == "postgresql:///?collection=handbook"
    container = of_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]
    help_ = CliRunner().invoke(cli, ["serve", "--help"]).output
    assert all(argument in help_ for argument in container["args"] if argument.startswith("--"))
    metric = of_kind("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert f"# TYPE {metric} gauge" in Metrics().text().decode()


def test_a_pod_has_longer_to_end_than_its_requests():
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    sleep = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > sleep + 30  # --drain-timeout
