"""Small tokenizers of each kind, trained on real sentences."""

from __future__ import annotations

import json
from pathlib import Path

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from encoder_tools.onnx_export.battery import real_sentences

VOCABULARY = 2600
SPECIALS = ["<pad>", "<eos>", "<bos>", "<unk>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
KINDS = ["bpe with bytes", "byte-level bpe", "unigram", "unigram with bytes", "wordpiece"]


def tokenizer_of(kind: str) -> Tokenizer:
    """A tokenizer of one of :data:`KINDS`."""
    texts = list(real_sentences())
    if kind == "bpe with bytes":  # Gemma's
        made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Replace(" ", "▁")
        made.train_from_iterator(
            [text.replace(" ", "▁") for text in texts],
            trainers.BpeTrainer(vocab_size=VOCABULARY - 256, special_tokens=[*SPECIALS, *BYTES], show_progress=False),
        )
        content = json.loads(made.to_str())
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in BYTES]
        made = Tokenizer.from_str(json.dumps(content))
        made.add_tokens([AddedToken("<unused0>"), AddedToken("\n\n", normalized=False)])
    elif kind == "byte-level bpe":
        made = Tokenizer(models.BPE(unk_token="<unk>"))
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(texts, trainer)
    elif kind.startswith("unigram"):
        made = Tokenizer(models.Unigram())
        made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=VOCABULARY - 256, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
        )
        made.train_from_iterator(texts, trainer)
        if "bytes" in kind:
            content = json.loads(made.to_str())
            content["model"]["vocab"] += [[piece, -20.0] for piece in BYTES]
            content["model"]["byte_fallback"] = True
            made = Tokenizer.from_str(json.dumps(content))
    else:
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=SPECIALS, show_progress=False)
        made.train_from_iterator(texts, trainer)
    marks = [("<bos>", made.token_to_id("<bos>")), ("<eos>", made.token_to_id("<eos>"))]
    made.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=marks)
    return made


def as_sentencepiece(tokenizer: Tokenizer) -> Tokenizer:
    """A trained BPE whose merges have every way to split a piece, as transformers converts those of SentencePiece."""
    content = json.loads(tokenizer.to_str())
    pieces = content["model"]["vocab"]
    order = dict.fromkeys("".join(merge) for merge in content["model"]["merges"])
    content["model"]["merges"] = [
        [whole[:cut], whole[cut:]]
        for whole in order
        for cut in range(1, len(whole))
        if whole[:cut] in pieces and whole[cut:] in pieces
    ]
    return Tokenizer.from_str(json.dumps(content))


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write a tokenizer in place of the one that a model's folder has."""
    for file in folder.glob("tokenizer*"):
        file.unlink()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        bos_token="<bos>",
    ).save_pretrained(folder)
