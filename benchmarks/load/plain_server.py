"""The server that people write themselves, as a peer: FastAPI around sentence-transformers. Run by the benchmark."""

from __future__ import annotations

import base64
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

app = FastAPI()
encoder = SentenceTransformer(sys.argv[1], device="cpu")


class Body(BaseModel):
    """OpenAI's body."""

    input: str | list[str]
    model: str
    encoding_format: str = "float"


@app.get("/health")
def health() -> dict[str, str]:
    """Say that it is up."""
    return {"status": "ok"}


@app.post("/v1/embeddings")
def embed(body: Body) -> dict[str, object]:
    """Embed, in FastAPI's threadpool."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors = encoder.encode(texts, normalize_embeddings=True)
    rows = [base64.b64encode(v.tobytes()).decode() if body.encoding_format == "base64" else v.tolist() for v in vectors]
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    return {"object": "list", "data": data, "model": body.model, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
