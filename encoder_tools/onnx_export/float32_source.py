"""The model as float32 files, which torch maps instead of loading: weights are then read as they are needed."""

from __future__ import annotations

import math
import os
from pathlib import Path

from encoder_tools.model.model_folder import EXPORT_FOLDER, ModelFolder
from encoder_tools.model.tensor_files import TensorLocation, copy_as_float32, is_float32, read_header


def float32_source(folder: ModelFolder, scratch: Path) -> ModelFolder:
    """The folder itself where its weights are float32; else a copy of it in ``scratch`` whose weights are.

    torch would hold weights of another dtype in memory twice while it converts them. Files other than weights are
    linked, not copied.

    :param scratch: a folder that does not exist yet; the caller removes it.
    :raises FileCorruptError: if a weight file is damaged, or quantized.
    """
    other = {file for file in folder.weight_files if file.suffix == ".safetensors" and not is_float32(file)}
    if not other:
        return folder
    for parent, folders, files in os.walk(folder.path):
        here = Path(parent)
        if here == folder.path:
            folders[:] = [name for name in folders if name != EXPORT_FOLDER and not name.startswith(".")]
        (scratch / here.relative_to(folder.path)).mkdir(parents=True, exist_ok=True)
        for name in (name for name in folders if (here / name).is_symlink()):  # os.walk does not go there
            (scratch / here.relative_to(folder.path) / name).symlink_to((here / name).resolve())
        for file in (here / name for name in files):
            target = scratch / file.relative_to(folder.path)
            if file in other:
                copy_as_float32(file, target)
            else:
                target.symlink_to(file.resolve())
    return ModelFolder.open(scratch)


def float32_sizes(folder: ModelFolder) -> tuple[int, int]:
    """Bytes of all weights as float32, and of the largest tensor among them, which is the word table.

    :raises FileCorruptError: if a weight file is damaged.
    """
    files = [file for file in folder.weight_files if file.suffix == ".safetensors"]
    sizes = [_float32_bytes(location) for file in files for location in read_header(file)]
    return sum(sizes), max(sizes, default=0)


def _float32_bytes(location: TensorLocation) -> int:
    return 4 * math.prod(location.shape)
