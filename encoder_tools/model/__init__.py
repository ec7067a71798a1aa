"""A Sentence Transformers folder as data: modules, prompts, tokenizer, embedding space; no torch, no ONNX Runtime."""
