"""ONNX Runtime's providers: their names, their options and how many tokens they take at once; all in this place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

from encoder_tools.errors import InputError

Provider: TypeAlias = Literal["cpu", "cuda", "tensorrt", "openvino"]
"""What computes."""
PROVIDERS: tuple[Provider, ...] = get_args(Provider)


class ProviderSettings(NamedTuple):
    """How a provider is opened.

    :ivar ort_name: its name in ONNX Runtime.
    :ivar device: ONNX Runtime's name of the memory that its inputs and outputs are bound to; None to pass numpy arrays.
    :ivar options: of the provider.
    :ivar max_tokens: padded tokens of a batch, where nobody says otherwise.
    :ivar also: providers behind it, for nodes that it does not have.
    """

    ort_name: str
    device: str | None
    options: Mapping[str, str]
    max_tokens: int
    also: tuple[str, ...] = ()


_CUDA_OPTIONS = {
    # products of float32 in TF32 have ten bits; the exact variant would then differ from torch by a thousandth
    "use_tf32": "0",
    # batches of many shapes: an arena that doubles would hold memory that no batch needs
    "arena_extend_strategy": "kSameAsRequested",
    "cudnn_conv_algo_search": "HEURISTIC",
    "do_copy_in_default_stream": "1",
}
_SETTINGS: Mapping[Provider, ProviderSettings] = {
    "cpu": ProviderSettings("CPUExecutionProvider", None, {}, 2048),
    "cuda": ProviderSettings("CUDAExecutionProvider", "cuda", _CUDA_OPTIONS, 16_384),
    "tensorrt": ProviderSettings(
        "TensorrtExecutionProvider",
        "cuda",
        {"trt_fp16_enable": "0", "trt_layer_norm_fp32_fallback": "1"},
        16_384,
        also=("cuda",),
    ),
    "openvino": ProviderSettings("OpenVINO", None, {}, 2048),  # of its own package, not one of ONNX Runtime's
}


def provider_settings(provider: str) -> ProviderSettings:
    """Settings of a provider.

    :raises InputError: if its name is unknown.
    """
    for name, settings in _SETTINGS.items():
        if name == provider:
            return settings
    raise InputError(f"Unknown provider {provider!r}; expected one of {', '.join(PROVIDERS)}.")


def ort_providers(
    provider: str, device_id: int = 0, options: Mapping[str, str] | None = None
) -> list[tuple[str, dict[str, str]]]:
    """What ``InferenceSession`` takes: a provider with its options, and those behind it.

    :param device_id: which of several cards.
    :param options: further ones of a card's providers.
    """
    settings = provider_settings(provider)
    chain = [settings, *(provider_settings(name) for name in settings.also)]
    card = {} if settings.device is None else {"device_id": str(device_id), **(options or {})}
    return [(each.ort_name, {**each.options, **card}) for each in chain]
