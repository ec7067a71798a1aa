"""Source code: where its definitions are, and what cuts it between them.

Grammars are those of tree-sitter, a wheel each (extra ``code``); a package of all grammars fetches them when they are
used, which a machine without a network cannot.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from encoder_tools.extras import require_extra
from index.documents.source_map import Heading, SourceText

CodeKind: TypeAlias = Literal[
    "bash", "c", "cpp", "csharp", "go", "java", "javascript", "php", "python", "ruby", "rust", "tsx", "typescript"
]
CODE_KINDS: tuple[str, ...] = get_args(CodeKind)


class _Language(NamedTuple):
    """One language.

    :ivar module: of its grammar, and ``function`` what gives it.
    """

    suffixes: str
    module: str
    function: str = "language"


_LANGUAGES: dict[str, _Language] = {
    "bash": _Language(".sh .bash", "tree_sitter_bash"),
    "c": _Language(".c .h", "tree_sitter_c"),
    "cpp": _Language(".cc .cpp .cxx .hh .hpp .hxx", "tree_sitter_cpp"),
    "csharp": _Language(".cs", "tree_sitter_c_sharp"),
    "go": _Language(".go", "tree_sitter_go"),
    "java": _Language(".java", "tree_sitter_java"),
    "javascript": _Language(".js .mjs .cjs .jsx", "tree_sitter_javascript"),
    "php": _Language(".php", "tree_sitter_php", "language_php"),
    "python": _Language(".py .pyi", "tree_sitter_python"),
    "ruby": _Language(".rb", "tree_sitter_ruby"),
    "rust": _Language(".rs", "tree_sitter_rust"),
    "tsx": _Language(".tsx", "tree_sitter_typescript", "language_tsx"),
    "typescript": _Language(".ts .mts .cts", "tree_sitter_typescript", "language_typescript"),
}
KIND_OF: dict[str, CodeKind] = {
    suffix: kind  # type: ignore[misc]
    for kind, language in _LANGUAGES.items()
    for suffix in language.suffixes.split()
}
"""By the suffix of a file."""

_DEFINITIONS = frozenset(
    "class class_declaration class_definition class_specifier constructor_declaration enum_declaration enum_item "
    "enum_specifier function_declaration function_definition function_item generator_function_declaration impl_item "
    "interface_declaration internal_module method method_declaration method_definition mod_item module "
    "namespace_declaration namespace_definition object_declaration property_declaration record_declaration "
    "singleton_method struct_declaration struct_item struct_specifier trait_declaration trait_item type_spec".split()
)
_NAMES = "name", "declarator", "type"  # fields that may hold the name; in C it is within a declarator
_DEEPEST = 200  # nodes within each other that are looked into


def grammar(kind: str) -> Any:
    """tree-sitter's grammar of a language, as both it and the splitter take it.

    :raises MissingExtraError: if it is not installed.
    """
    language = _LANGUAGES[kind]
    require_extra("code", "tree_sitter", language.module)
    return getattr(import_module(language.module), language.function)()


def read_code(source: str, kind: str) -> SourceText:
    """The source with its definitions as headings: a class, and the methods in it one level deeper.

    Whatever does not parse is text without a name; nothing is refused.
    """
    language = grammar(kind)
    tree_sitter = import_module("tree_sitter")
    parser = tree_sitter.Parser(tree_sitter.Language(language))
    data = source.encode("utf-8", "surrogatepass")
    found = sorted(_definitions(parser.parse(data).root_node), key=lambda heading: (heading.start, -heading.level))
    at = _characters(source, data)
    return SourceText(source, [one._replace(start=int(at[one.start]), end=int(at[one.end])) for one in found])


def _definitions(root: Any) -> Iterator[Heading]:
    """In bytes. An end of a definition is a heading without a title: what follows does not stand under it."""
    waiting = [(root, 1)]
    while waiting:
        node, level = waiting.pop()
        name = _name(node) if node.is_named and node.type in _DEFINITIONS else None
        if name is not None and level < _DEEPEST:
            yield Heading(node.start_byte, name.end_byte, level, " ".join(name.text.decode(errors="replace").split()))
            yield Heading(node.end_byte, node.end_byte, level, "")
            level += 1
        waiting += [(child, level) for child in node.children]


def _name(node: Any) -> Any:
    """The node that names a definition, if one does; a declaration without a body names nothing new."""
    if node.type.endswith("_specifier") and node.child_by_field_name("body") is None:
        return None
    for field in _NAMES:
        name = node.child_by_field_name(field)
        while name is not None and (inner := name.child_by_field_name("declarator")) is not None:
            name = inner
        if name is not None:
            return name
    return None


def _characters(source: str, data: bytes) -> Any:
    """By the position of a byte, the number of the character that it is in."""
    if len(source) == len(data):
        return np.arange(len(data) + 1)
    begins = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
    return np.concatenate([np.cumsum(begins) - begins, [len(source)]])
