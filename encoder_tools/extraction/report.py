"""The report of an extraction: what was kept, what was dropped and why, and how equality was shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

FORMAT_VERSION = 1
REPORT_NAME = "extraction.json"


@dataclass(frozen=True)
class ExtractionReport:
    """What ``extract`` did.

    :ivar copied: names of tensors that kept their name.
    :ivar renamed: new name by old name.
    :ivar dropped: reason by name.
    :ivar kept_bytes: bytes of the tensors written.
    :ivar max_difference: largest absolute difference of hidden states between source and extracted encoder.
    :ivar proof_texts: texts compared.
    :ivar proof_longest: tokens of the longest of them.
    :ivar exact_length: longest input for which the key layout guarantees equality; None if it has no limit.
    :ivar max_length: maximum length that the model was given.
    :ivar closeness: beyond ``exact_length``, cosine of mean vectors to the source's by number of tokens.
    """

    source: str
    revision: str | None
    family: str
    layout: str
    class_name: str
    dtype: str
    copied: tuple[str, ...]
    renamed: Mapping[str, str]
    dropped: Mapping[str, str]
    kept_bytes: int
    max_difference: float
    proof_texts: int
    proof_longest: int
    exact_length: int | None
    max_length: int
    pooling: str
    dense: tuple[int, ...]
    normalize: bool
    notes: tuple[str, ...] = ()
    closeness: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of ``extraction.json``."""
        return {"format": "encoder-tools-extraction", "format_version": FORMAT_VERSION, **asdict(self)}

    def to_text(self) -> str:
        """A summary of a dozen lines."""
        reasons = Counter(self.dropped.values())
        limit = "any length" if self.exact_length is None else f"up to {self.exact_length} tokens"
        lines = [
            f"{self.family} ({self.layout} layout, {self.class_name}, {self.dtype})",
            f"copied   {len(self.copied)} tensors bit for bit",
            f"renamed  {len(self.renamed)} tensors bit for bit",
            *(f"dropped  {count} tensors: {reason}" for reason, count in reasons.items()),
            f"kept     {self.kept_bytes / 1e6:.1f} MB",
            f"proof    largest difference of hidden states {self.max_difference:g} over {self.proof_texts} texts, "
            f"the longest of {self.proof_longest} tokens",
            f"exact    {limit}; maximum length set to {self.max_length} tokens",
            *(f"note     {note}" for note in self.notes),
        ]
        return "\n".join(lines)
