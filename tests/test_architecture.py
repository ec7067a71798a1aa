"""The drawing of the house, held by reading the imports: who may import whom, and what importing must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("encoder_tools", "heads", "index", "service")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
MODULES = [file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in FILES]

FLOOR = tuple(
    f"encoder_tools.{name}"
    for name in (
        "arguments",
        "errors",
        "extras",
        "files",
        "model_folder",
        "positions",
        "prompts",
        "protocols",
        "runtime",
        "shipped",
        "spaces",
        "staging",
        "tokens",
        "vectors",
    )
)
"""The torch-free floor of encoder_tools; all else there is the torch floor."""
ROOM_NEEDS = tuple(
    f"encoder_tools.{name}"
    for name in (
        "arguments",
        "errors",
        "extras",
        "files",
        "parquet",
        "protocols",
        "rejected",
        "rows",
        "spaces",
        "staging",
        "vectors",
    )
)
"""What heads and index may know of encoder_tools: files, and a protocol, not a class."""
HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "onnx", "onnxscript", "optimum")
NEVER = ("pickle", "cPickle", "joblib.load", "joblib.dump", "dill", "cloudpickle", "shelve", "marshal")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


def imports_of(file: Path, *, at_import_only: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; without those under functions and TYPE_CHECKING if asked."""
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if at_import_only and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_type_checking(node)):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def within(name: str, *roots: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def forbidden(file: Path, imported: str) -> bool:
    """Whether this import goes against an arrow."""
    module = name_of(file)
    if not within(imported, *PACKAGES):
        return within(module, *FLOOR, "heads", "index") and within(imported, *HEAVY)
    if within(module, *FLOOR):
        return not within(imported, *FLOOR) and imported != "encoder_tools.__version__"
    if within(module, "encoder_tools"):
        return not within(imported, "encoder_tools")
    if within(module, "heads", "index"):
        room = module.partition(".")[0]
        return not within(imported, room, "encoder_tools") or not (
            within(imported, room, *ROOM_NEEDS) or imported in ("encoder_tools", "encoder_tools.__version__")
        )
    return False


def test_every_import_follows_the_arrows():
    against = [f"{name_of(file)} -> {name}" for file in FILES for name in imports_of(file) if forbidden(file, name)]
    assert against == []


def test_the_arrows_can_be_broken():
    runtime, heads = ROOT / "encoder_tools/runtime/session.py", ROOT / "heads/linear.py"
    assert forbidden(runtime, "torch")
    assert forbidden(runtime, "encoder_tools.export.exporter")
    assert forbidden(heads, "index.Collection")
    assert forbidden(heads, "encoder_tools.runtime.OnnxEncoder")
    assert forbidden(ROOT / "encoder_tools/export/exporter.py", "service.app")


def test_nothing_imports_a_pickle():
    assert [(name_of(file), name) for file in FILES for name in imports_of(file) if within(name, *NEVER)] == []


def test_commands_import_nothing_heavy_before_they_run():
    light = (
        "click",
        "pathlib",
        "typing",
        "sys",
        "collections",
        "contextlib",
        "dataclasses",
        "functools",
        "importlib",
        "json",
        "re",
    )
    light += ("encoder_tools.errors",)
    heavy = [
        f"{name_of(file)} -> {name}"
        for file in FILES
        if within(name_of(file), "service.cli")
        for name in imports_of(file, at_import_only=True)
        if not within(name, *light, "__future__", "service.cli") and name != "encoder_tools"
    ]
    assert heavy == []


@pytest.mark.parametrize("statement", ["import encoder_tools, heads, index, service, service.cli"])
def test_importing_the_packages_loads_no_runtime_and_no_training_library(statement: str):
    loaded = run(f"{statement}; import sys; print(*sys.modules)").split()
    assert [name for name in loaded if within(name, *HEAVY, "onnxruntime", "sklearn", "faiss", "scipy")] == []


def test_the_help_loads_no_numbers_at_all():
    script = "from service.cli import cli; cli(['--help'], standalone_mode=False); import sys; print(*sys.modules)"
    loaded = run(script).split()
    assert [name for name in loaded if within(name, *HEAVY, "onnxruntime", "numpy", "starlette", "uvicorn")] == []


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_files_and_functions_fit_their_frames(file: Path):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [n.name for n in functions if (n.end_lineno or 0) - n.lineno >= MAX_FUNCTION_LINES] == []


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout
