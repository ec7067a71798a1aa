"""Token ids of OpenAI's vocabularies, decoded to text."""

from __future__ import annotations

from collections.abc import Callable

from encoder_tools.errors import InputError, MissingExtraError


def decoder_of(encoding: str) -> Callable[[list[int]], str]:
    """What gives the text of token ids of one of tiktoken's encodings, such as "cl100k_base".

    :raises MissingExtraError: if tiktoken is not installed.
    :raises InputError: if there is no such encoding, or its vocabulary cannot be had.
    """
    try:
        import tiktoken
    except ImportError:
        raise MissingExtraError("Decoding token ids needs tiktoken: pip install tiktoken") from None
    try:
        encoding_ = tiktoken.get_encoding(encoding)
    except Exception as error:  # noqa: BLE001 - it downloads, and each way of failing has its own exception
        raise InputError(
            f"The encoding {encoding!r} of tiktoken cannot be had ({type(error).__name__}: {error}). Expected "
            "cl100k_base, o200k_base or another that tiktoken has, and its file in TIKTOKEN_CACHE_DIR or a way to "
            "download it; or --token-ids refuse or native."
        ) from None
    decode: Callable[[list[int]], str] = encoding_.decode
    return decode
