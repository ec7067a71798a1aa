"""Every error this project raises on purpose, as one tree.

A caller who wants "anything that went wrong in encoder-tools" catches :class:`EncoderToolsError`. Each leaf is also
the builtin that a reader would expect, so code that knows nothing of us still catches it.

    EncoderToolsError
    ├── InputError (ValueError)             an argument or a text is not what the call takes
    ├── MissingExtraError (ImportError)     an optional dependency is not installed
    ├── FileMissingError (FileNotFoundError) a file or folder is not there
    ├── FileCorruptError (ValueError)       a file is there but cannot be what it claims to be
    ├── UnavailableError (ConnectionError)  a database server cannot be reached, or ended a connection
    ├── SaveError (OSError)                 writing failed; what stood there before is untouched
    ├── CheckpointError (ValueError)        a checkpoint cannot be extracted
    │   ├── CheckpointFamilyError           unknown family, decoder-only, pickle-only
    │   └── CheckpointTensorError           missing, extra or misshapen tensors
    ├── ProofError (RuntimeError)           an extracted encoder differs from its source
    ├── TrainingError (RuntimeError)        a loss or a gradient is not finite
    ├── ExportError (RuntimeError)          a model cannot be exported
    │   └── ParityError                     the exported graph differs from torch by more than the tolerance
    ├── ResourceError (RuntimeError)        work that needs more memory or disk than there is
    ├── ProviderError (RuntimeError)        the requested execution provider is not available
    ├── InferenceError (RuntimeError)       ONNX Runtime failed while it computed
    └── FingerprintError (ValueError)       vectors, heads or collections of another model

Messages say what was found, what was expected and what to do, in that order.
"""

from __future__ import annotations


class EncoderToolsError(Exception):
    """Base of every error that encoder-tools raises on purpose."""


class InputError(EncoderToolsError, ValueError):
    """An argument or a text is not what the call takes."""


class UnstorableError(InputError):
    """A document is one that the engine of its collection cannot store, and others can."""


class MissingExtraError(EncoderToolsError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class FileMissingError(EncoderToolsError, FileNotFoundError):
    """A file or folder that is needed is not there."""


class FileCorruptError(EncoderToolsError, ValueError):
    """A file exists but is truncated, altered or not of the kind it should be."""


class UnavailableError(EncoderToolsError, ConnectionError):
    """A database server cannot be reached, or ended the connection; the same call may succeed later."""


class SaveError(EncoderToolsError, OSError):
    """Writing failed (full disk, no permission); what stood at the target before is untouched."""


class CheckpointError(EncoderToolsError, ValueError):
    """A checkpoint cannot be extracted."""


class CheckpointFamilyError(CheckpointError):
    """The checkpoint is of an unknown family, has no encoder, or holds only pickled weights."""


class CheckpointTensorError(CheckpointError):
    """The checkpoint's tensors are not those that its configuration calls for."""


class ProofError(EncoderToolsError, RuntimeError):
    """The extracted encoder does not reproduce the source's encoder."""


class TrainingError(EncoderToolsError, RuntimeError):
    """Training cannot go on: a loss or a gradient is not finite."""


class ExportError(EncoderToolsError, RuntimeError):
    """The model cannot be exported."""


class ParityError(ExportError):
    """The exported graph differs from torch by more than the tolerance."""


class ResourceError(EncoderToolsError, RuntimeError):
    """The work needs more memory or disk than there is; it was not started."""


class ProviderError(EncoderToolsError, RuntimeError):
    """The requested ONNX Runtime execution provider is not available."""


class InferenceError(EncoderToolsError, RuntimeError):
    """ONNX Runtime failed while it computed: out of memory, a driver, or a graph that does not fit its tokenizer."""


class FingerprintError(EncoderToolsError, ValueError):
    """Vectors, a head or a collection were made with another model."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python says so by a class of its own, torch and ONNX Runtime by words."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return any(words in text for words in ("not enough memory", "out of memory", "can't allocate memory", "bad_alloc",
                                           "cannot allocate memory",
                                           "failed to allocate memory", "alloc_cpu"))  # fmt: skip


def one_line(error: BaseException, most: int = 200) -> str:
    """What an exception says, on one line of at most ``most`` characters; its class where it says nothing."""
    text = " ".join(str(error).split())
    return text[:most] or type(error).__name__
