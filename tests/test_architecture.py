"""The drawing of the house, held by reading the imports: who may import whom, and what importing must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("encoder_tools", "heads", "index", "integrations", "service")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
MODULES = [file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in FILES]

FLOOR = tuple(
    f"encoder_tools.{name}"
    for name in (
        "aliases",
        "arguments",
        "bulk",
        "errors",
        "extras",
        "io",
        "machine",
        "model",
        "protocols",
        "runtime",
        "vectors",
    )
)
"""The torch-free floor of encoder_tools; all else there is the torch floor."""
ROOM_NEEDS = tuple(
    f"encoder_tools.{name}"
    for name in (
        "aliases",
        "arguments",
        "bulk.vector_shards",
        "errors",
        "extras",
        "io",
        "model.embedding_space",
        "protocols",
        "vectors",
    )
)
"""What heads and index may know of encoder_tools: files, and a protocol, not a class."""
LAYERS = {
    "encoder_tools": (
        "errors protocols aliases",
        "extras arguments vectors",
        "io machine",
        "model",
        "runtime families",
        "bulk extraction onnx_export gguf_export evaluation",
        "training trimming",
        "distillation",
    ),
    "heads": ("validation metrics labeled", "serving", "selection", "estimators", "evaluation", "workflows"),
    "index": (
        "results",
        "validation text documents rescoring",
        "storage",
        "memory",
        "ann lexical",
        "query",
        "collection",
        "engines",
        "ingest quality sizing",
    ),
    "integrations": (
        "filter_language opening",
        "haystack_documents haystack_filters",
        "haystack langchain llama_index retriever",
        "haystack_retrievers",
    ),
    "service": (
        "batching responses",
        "errors config page",
        "auth request_context schemas",
        "observability",
        "serving",
        "http",
        "routes workflows",
        "app",
        "server",
        "demo workers",
        "cli",
    ),
}
"""The rooms of each package from the ground up: what stands in a line imports only from the lines above it."""
MAX_MODULES = 12
MANY_OF_A_KIND = {"service.cli": "one file per command", "service.routes": "one file per subject"}
PARALLEL = {"recipe", "run"}
"""Names that two stages share, because the two are told apart by their folders: training.run and distillation.run."""
HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "onnx", "onnxscript", "optimum")
ON_DEMAND = {("encoder_tools.io.rows", "datasets")}
"""Imported inside the one function that reads what only that library wrote."""
NEVER = ("pickle", "cPickle", "joblib.load", "joblib.dump", "dill", "cloudpickle", "shelve", "marshal")
MAX_FILE_LINES = 500  # far above what one idea takes; a file is cut where an idea ends
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
        heavy = within(module, *FLOOR, "heads", "index") and within(imported, *HEAVY)
        return heavy and (module, imported.partition(".")[0]) not in ON_DEMAND
    if within(module, *FLOOR):
        return not within(imported, *FLOOR) and imported != "encoder_tools.__version__"
    if within(module, "encoder_tools"):
        return not within(imported, "encoder_tools")
    if within(module, "heads", "index"):
        room = module.partition(".")[0]
        return not within(imported, room, "encoder_tools") or not (
            within(imported, room, *ROOM_NEEDS) or imported in ("encoder_tools", "encoder_tools.__version__")
        )
    if within(module, "integrations"):
        return not within(imported, "integrations", "index", "encoder_tools")
    return False


def test_every_import_follows_the_arrows():
    against = [f"{name_of(file)} -> {name}" for file in FILES for name in imports_of(file) if forbidden(file, name)]
    assert against == []


def test_the_arrows_can_be_broken():
    runtime, heads = ROOT / "encoder_tools/runtime/session.py", ROOT / "heads/estimators/linear.py"
    assert forbidden(runtime, "torch")
    assert forbidden(runtime, "encoder_tools.onnx_export.exporter")
    assert forbidden(heads, "index.Collection")
    assert forbidden(heads, "encoder_tools.runtime.OnnxEncoder")
    assert forbidden(ROOT / "encoder_tools/onnx_export/exporter.py", "service.app")


def internal_imports() -> dict[str, set[str]]:
    """Which module imports which, TYPE_CHECKING and functions included."""
    known = {name_of(file) for file in FILES}

    def module_of(name: str) -> str:
        while name and name not in known:
            name = name.rpartition(".")[0]
        return name

    return {name_of(file): {module_of(name) for name in imports_of(file)} - {"", name_of(file)} for file in FILES}


def cycles_of(graph: dict[str, set[str]]) -> set[str]:
    """The nodes that lie on a cycle: what is left when nodes without a way in or out are taken off again and again."""
    left = {node: {other for other in others if other != node} for node, others in graph.items()}
    while True:
        used = set().union(*left.values()) if left else set()
        kept = {node: others & set(left) for node, others in left.items() if others & set(left) and node in used}
        if kept == left:
            return set(kept)
        left = kept


def test_no_modules_import_each_other_in_a_circle():
    assert cycles_of(internal_imports()) == set()
    assert cycles_of({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("package", PACKAGES)
def test_the_rooms_of_a_package_import_one_way(package: str):
    level = {room: number for number, line in enumerate(LAYERS[package]) for room in line.split()}
    modules = {name: imported for name, imported in internal_imports().items() if within(name, package)}
    assert {room_of(name) for name in modules} - {""} == set(level)
    against = [
        f"{name} -> {other}"
        for name, imported in modules.items()
        for other in imported
        if within(other, package) and room_of(name) and room_of(other) and room_of(name) != room_of(other)
        and level[room_of(name)] <= level[room_of(other)]
    ]  # fmt: skip
    assert against == []


def test_a_folder_can_be_taken_in_at_a_glance():
    folders = [folder for package in PACKAGES for folder in [ROOT / package, *(ROOT / package).rglob("*")]]
    counts = {name_of(folder): len([*folder.glob("[!_]*.py")]) for folder in folders if folder.is_dir()}
    assert {name: count for name, count in counts.items() if count > MAX_MODULES}.keys() <= MANY_OF_A_KIND.keys()


def test_a_module_name_occurs_once_in_a_package():
    for package in PACKAGES:
        places: dict[str, list[str]] = {}
        for file in FILES:
            if within(name_of(file), package) and file.name != "__init__.py":
                places.setdefault(file.stem, []).append(name_of(file))
        twice = {name: where for name, where in places.items() if len(where) > 1 and name not in PARALLEL}
        pairs = ({"routes", "schemas"}, {"cli", "workflows"})  # a route and its bodies, a command and what it runs
        assert {name for name, where in twice.items() if {room_of(at) for at in where} not in pairs} == set()


def tree() -> str:
    """The packages folder by folder, each with the first sentence of its docstring."""
    lines = []
    for package in PACKAGES:
        for file in sorted(FILES, key=lambda file: file.parent):
            if file.name == "__init__.py" and within(name_of(file), package):
                depth = name_of(file).count(".")
                first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
                name = "    " * depth + file.parent.name + "/"
                lines.append(f"{name:<24}{' '.join(first.split())}")
    return "\n".join(lines)


def test_the_architecture_page_draws_the_tree_as_it_is():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = page.partition("<!-- tree -->\n```text\n")[2].partition("\n```")[0]
    assert drawn == tree(), "run `make architecture`"


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
