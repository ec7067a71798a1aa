"""The contrastive objective: batches of one set, one GradCache pass over all their texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from encoder_tools.training.data.examples import Example, folded
from encoder_tools.training.engine import distributed as processes
from encoder_tools.training.engine.device import Ids, bf16_products, hash_ids, padded
from encoder_tools.training.engine.loop import optimizer_groups
from encoder_tools.training.engine.schedule import Rows
from encoder_tools.training.objectives.gradcache import cached_backward
from encoder_tools.training.objectives.losses import Batch, cosent, cosine_loss, geometry_loss, info_nce, spread_out
from encoder_tools.training.objectives.teacher_targets import Targets
from encoder_tools.training.recipe import DataSet, Recipe


class TokenizedSet(NamedTuple):
    """One set, ready to train on.

    :ivar queries: token ids of each example's query; likewise ``documents``, empty for plain texts, and, a list each,
        ``negatives``.
    :ivar query_ids: numbers of the queries' texts: equal numbers, equal texts; likewise of documents and negatives. Of
        labeled texts, numbers of the labels, so that the mask of equal texts keeps apart what is of one label.
    """

    settings: DataSet
    queries: list[Ids]
    documents: list[Ids]
    negatives: list[list[Ids]]
    query_ids: NDArray[np.int64]
    document_ids: NDArray[np.int64]
    negative_ids: list[list[int]]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.queries)


def tokenize(model: Any, settings: DataSet, examples: Sequence[Example], longest: int) -> TokenizedSet:
    """Token ids of a set's texts, with their prompts; a text that is cut keeps its last special token."""
    numbers: dict[str, int] = {}

    def number(text: str) -> int:
        return numbers.setdefault(folded(text), len(numbers))

    def ids(texts: Sequence[str], prompt: str) -> list[Ids]:
        if not texts:
            return []
        encoded = model.tokenizer([prompt + text for text in texts], truncation=True, max_length=longest)["input_ids"]
        return [np.array(row, dtype=np.int32) for row in encoded]

    single = settings.shape in ("labeled", "plain")
    document_prompt = settings.query_prompt if single else settings.document_prompt
    negatives = ids([text for row in examples for text in row.negatives], settings.document_prompt)
    split = np.cumsum([0, *(len(row.negatives) for row in examples)])
    return TokenizedSet(
        settings,
        ids([row.query for row in examples], settings.query_prompt),
        ids([row.document for row in examples if row.document], document_prompt),
        [negatives[start:end] for start, end in pairwise(split)],
        np.array([number(row.label or row.query) for row in examples]),
        np.array([number(row.label or row.document) for row in examples]),
        [[number(text) for text in row.negatives] for row in examples],
        np.array([row.score for row in examples], dtype=np.float32),
    )


class ContrastiveObjective:
    """Gradients of a recipe's losses; see :class:`encoder_tools.training.engine.loop.Objective`.

    The model runs without dropout: a cached pass and a resumed run then need no random state.

    :param model: a SentenceTransformer whose first module is a Transformer.
    :param sets: what is trained on; a row of a batch is a number over all of them, in this order.
    :param targets: a teacher's vectors for each set, where the recipe matches them.
    :param held_out: quality of the model on examples that are not trained on, if it is to be measured on the way.
    :ivar width: of the model's vectors.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Any,
        sets: Sequence[TokenizedSet],
        targets: Sequence[Targets] = (),
        held_out: Callable[[], float] | None = None,
    ) -> None:
        self.recipe, self.model, self.sets, self.targets = recipe, model.eval(), sets, targets
        self.held_out = held_out
        self.device: torch.device = model.device
        self.starts = np.cumsum([0, *map(len, sets)])
        self.pad_id = int(model.tokenizer.pad_token_id or 0)
        if not recipe.lora.rank:
            model.requires_grad_(True)
        self.width = int(model.get_embedding_dimension())
        self.projection: nn.Linear | None = None  # thrown away afterwards
        if targets and targets[0].width != self.width:
            torch.manual_seed(recipe.training.seed)
            self.projection = nn.Linear(self.width, targets[0].width, bias=False).to(self.device)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained of the model, and the projection to a teacher of another width."""
        own = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        if self.projection is not None:
            own |= {f"projection.{name}": value for name, value in self.projection.named_parameters()}
        return own

    def groups(self) -> list[dict[str, Any]]:
        """The word table has a rate of its own; norms and biases are not decayed."""
        training = self.recipe.training
        table = self.model[0].model.get_input_embeddings().weight
        return optimizer_groups(
            self.parameters(),
            table,
            rate=training.rate,
            table_rate=training.table_rate,
            weight_decay=training.weight_decay,
        )

    def backward(self, rows: Rows) -> dict[str, float]:
        """Gradients of one batch, whose rows are all of one set."""
        set_, own = self._place(rows)
        data = self.sets[set_]
        texts = _texts(data, own)

        def encode(part: NDArray[np.int64]) -> torch.Tensor:
            return self.vectors([texts[row] for row in part])

        def loss_of(vectors: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
            targets = self.targets[set_].of(own, vectors.device) if self.targets else None
            return self._loss(data, own, vectors, targets)

        told = cached_backward(encode, [len(text) for text in texts], loss_of, tokens=self.recipe.training.tokens)
        if processes.count() > 1:
            self._add_up_gradients()
        return told

    def _add_up_gradients(self) -> None:
        """Each process has those of its texts, and all have the same ones of the projection."""
        for name, parameter in self.parameters().items():
            own = parameter.grad if processes.is_lead() or not name.startswith("projection.") else None
            parameter.grad = processes.add_up(torch.zeros_like(parameter) if own is None else own)

    def tokens_of(self, rows: Rows) -> int:
        """Tokens of one batch, padding left out."""
        set_, own = self._place(rows)
        return sum(map(len, _texts(self.sets[set_], own)))

    def _place(self, rows: Rows) -> tuple[int, Rows]:
        """Which set the rows of a batch are of, and which rows of it they are."""
        set_ = int(np.searchsorted(self.starts, rows[0], side="right")) - 1
        return set_, rows - self.starts[set_]

    def measure(self) -> dict[str, float]:
        """Quality on the way, if it was asked for."""
        return {} if self.held_out is None else {"held_out": self.held_out()}

    def checkpoint(self) -> None:
        """Nothing but the state itself."""

    def _loss(
        self, data: TokenizedSet, own: Rows, vectors: torch.Tensor, targets: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, float]]:
        plain = data.settings.shape == "plain"
        loss, parts = (vectors.new_zeros(()), {}) if plain else self._contrast(data, own, vectors)
        if targets is None:
            return loss, parts
        objective = self.recipe.objective
        projected = vectors if self.projection is None else functional.normalize(self.projection(vectors), dim=-1)
        match, geometry = cosine_loss(projected, targets), geometry_loss(projected, targets)
        parts |= {"match": float(match.detach()), "geometry": float(geometry.detach())}
        return loss + objective.match * match + objective.geometry * geometry, parts

    def _contrast(self, data: TokenizedSet, own: Rows, vectors: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        objective, size = self.recipe.objective, len(own)
        batch = self._batch(data, own, vectors)
        widths = sorted({*(dim for dim in objective.dims if dim < vectors.shape[1]), vectors.shape[1]})
        cuts = [batch.cut(dim) for dim in widths]
        if data.settings.score:
            scores = torch.from_numpy(data.scores[own]).to(vectors.device)
            loss = torch.stack(
                [cosent(cut.queries, cut.documents, scores, scale=objective.scale) for cut in cuts]
            ).mean()
            return loss, {"cosent": float(loss.detach())}
        contrast = torch.stack(
            [
                info_nce(
                    cut,
                    scale=objective.scale,
                    both_directions=objective.both_directions,
                    four_way=objective.four_way,
                    hardness=objective.hardness,
                )
                for cut in cuts
            ]
        ).mean()
        parts = {"info_nce": float(contrast.detach())}
        if objective.spread_out and size > 1:
            spread = torch.stack(
                [spread_out(cut.queries, cut.query_ids) + spread_out(cut.documents, cut.document_ids) for cut in cuts]
            ).mean()
            parts["spread_out"] = float(spread.detach())
            contrast = contrast + objective.spread_out * spread
        return contrast, parts

    def _batch(self, data: TokenizedSet, own: Rows, vectors: torch.Tensor) -> Batch:
        size = len(own)
        owners = [row_ for row_, row in enumerate(own) for _ in data.negatives[row]]
        numbers = [number for row in own for number in data.negative_ids[row]]
        ids = (
            data.query_ids[own],
            data.document_ids[own],
            np.array(numbers, dtype=np.int64),
            np.array(owners, dtype=np.int64),
        )
        return Batch(
            vectors[:size],
            vectors[size : 2 * size],
            vectors[2 * size :],
            *(torch.from_numpy(i).to(vectors.device) for i in ids),
        )

    def vectors(self, texts: Sequence[Ids]) -> torch.Tensor:
        """Unit vectors (n, D) of texts, by the whole pipeline."""
        ids, mask = padded(texts, self.device, pad_id=self.pad_id)
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        with bf16_products(self.recipe.training.precision, self.device):
            vectors = self.model(features)["sentence_embedding"]
        return functional.normalize(vectors.float(), dim=-1)


def _texts(data: TokenizedSet, own: Rows) -> list[Ids]:
    """Queries, documents and negatives of a batch, one behind another."""
    documents = [data.documents[row] for row in own] if data.documents else []
    return [*(data.queries[row] for row in own), *documents, *(text for row in own for text in data.negatives[row])]


def digest_of(sets: Sequence[TokenizedSet]) -> str:
    """Hash of all texts as token ids, and of their scores: a recipe names files, not what is in them."""
    state = hashlib.sha256()
    for part in sets:
        hash_ids(state, (*part.queries, *part.documents, *(text for texts in part.negatives for text in texts)))
        state.update(part.scores.tobytes())
    return state.hexdigest()[:32]
