"""What this machine is and can do, for people who ask why something is slow or does not load."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encoder_tools import __version__
from encoder_tools.errors import EncoderToolsError
from encoder_tools.machine.accelerators import Gpu, ProviderState, distributions, gpus, providers
from encoder_tools.machine.installed import version_of
from encoder_tools.machine.processor import Processor, this_processor
from encoder_tools.machine.room import available_memory
from encoder_tools.model.model_folder import ModelFolder
from encoder_tools.model.shipped import model_path
from encoder_tools.runtime.automatic import Choice, choose_variant
from encoder_tools.runtime.manifest import HALF, Manifest

_PACKAGES = ("numpy", "onnxruntime", "tokenizers", "faiss-cpu", "scikit-learn", "torch", "transformers",
             "sentence-transformers", "onnx", "uvicorn")  # fmt: skip
_TEXT = "A customer asks where the card is that was sent two weeks ago, and how long it usually takes. "
_BATCH = 32


@dataclass(frozen=True)
class Speed:
    """One measurement of the probe.

    :ivar variant: of the model.
    :ivar threads: of ONNX Runtime.
    :ivar texts_per_second: of about 100 tokens each.
    """

    variant: str
    threads: int
    texts_per_second: float


@dataclass(frozen=True)
class Diagnosis:
    """Everything that ``encoder-tools doctor`` says.

    :ivar packages: versions; "not installed" where one is missing.
    :ivar memory: bytes that can be taken, within the container's limit; None where the system does not say.
    :ivar disk: bytes free in the current folder.
    :ivar no_gpu: why there is no graphics card.
    :ivar runtimes: distributions of onnxruntime that are installed.
    :ivar speeds: of the probe.
    :ivar recommended: the fastest of them.
    :ivar automatic: the variant that "auto" takes on a CPU, and why; None where the model cannot be read.
    :ivar problems: what should be mended, one line each, with the way.
    """

    encoder_tools: str
    python: str
    system: str
    packages: Mapping[str, str]
    processor: Processor
    memory: int | None
    disk: int
    gpus: Sequence[Gpu]
    no_gpu: str
    runtimes: Mapping[str, str]
    providers: Sequence[ProviderState]
    speeds: Sequence[Speed]
    recommended: Speed | None
    automatic: Choice | None
    problems: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        named = {
            "processor": self.processor._asdict(),
            "gpus": [gpu._asdict() for gpu in self.gpus],
            "providers": [state._asdict() for state in self.providers],
            "automatic": None if self.automatic is None else self.automatic._asdict(),
        }
        return {"format": "encoder-tools-doctor", "format_version": 1, **asdict(self), **named}


def diagnose(model: str = "default", *, seconds: float = 10.0) -> Diagnosis:
    """Look at the machine, and measure a model for some seconds.

    :param model: "default" or an exported folder.
    :param seconds: for the probe; 0 leaves it out.
    """
    processor = this_processor()
    cards, no_gpu = gpus()
    runtimes, states = distributions(), providers()
    problems = [*_problems_of_runtimes(runtimes, cards, states), *_problems_of_processor(processor)]
    speeds, automatic = list[Speed](), None
    try:
        manifest = Manifest.read(ModelFolder.open(model_path(model)))
        automatic = choose_variant(manifest, "cpu", processor)
        if seconds > 0:
            speeds = _probe(model, manifest, processor.allowed, seconds)
    except EncoderToolsError as error:
        problems.append(f"{model!r} cannot be measured: {error}")
    return Diagnosis(
        __version__,
        platform.python_version(),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        {name: version_of(name) or "not installed" for name in _PACKAGES},
        processor,
        available_memory(),
        shutil.disk_usage(Path.cwd()).free,
        cards,
        no_gpu,
        runtimes,
        states,
        speeds,
        max(speeds, key=lambda speed: speed.texts_per_second, default=None),
        automatic,
        problems,
    )


def _probe(model: str, manifest: Manifest, cores: int, seconds: float) -> list[Speed]:
    on_cpu = [variant for variant in sorted(manifest.graphs) if variant not in HALF]
    counts = sorted({1, cores})
    each = seconds / (len(on_cpu) * len(counts))
    return [_speed(model, variant, threads, each) for variant in on_cpu for threads in counts]


def _speed(model: str, variant: str, threads: int, seconds: float) -> Speed:
    from encoder_tools.runtime import OnnxEncoder

    encoder = OnnxEncoder(model, variant=variant, threads=threads, verify=False)
    texts = [f"{number} {_TEXT * 4}" for number in range(_BATCH)]
    encoder.encode(texts[:4])
    start, done = time.perf_counter(), 0
    while not done or time.perf_counter() - start < seconds:
        encoder.encode(texts, show_progress=False)
        done += len(texts)
    return Speed(variant, threads, round(done / (time.perf_counter() - start), 1))


def _problems_of_runtimes(
    runtimes: Mapping[str, str], cards: Sequence[Gpu], states: Sequence[ProviderState]
) -> list[str]:
    problems = []
    if len(runtimes) > 1:
        names = " and ".join(runtimes)
        problems.append(
            f"{names} are installed together and overwrite each other's files. Uninstall all of them, then install one."
        )
    loads = {state.name: state for state in states}
    cuda = loads.get("CUDAExecutionProvider")
    if cards and cuda is not None and not cuda.loads:
        problems.append(
            f"There is a GPU ({cards[0].name}), but CUDA does not load: {cuda.reason}. pip uninstall -y onnxruntime "
            "onnxruntime-gpu && pip install onnxruntime-gpu, with CUDA and cuDNN of the version that it names."
        )
    return problems


def _problems_of_processor(processor: Processor) -> list[str]:
    problems = []
    if processor.allowed < processor.cores:
        problems.append(
            f"This process may use {processor.allowed} of {processor.cores} cores (affinity or the container's quota)."
        )
    if processor.architecture == "x86_64" and processor.features and "avx2" not in processor.features:
        problems.append("The processor has no AVX2: everything here will be several times slower than on others.")
    return problems
