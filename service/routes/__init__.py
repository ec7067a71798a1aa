"""The routes, one small file per subject."""

from __future__ import annotations

from starlette.routing import Route

from service.routes import classify, embeddings, models, root, search

ROUTES = (
    Route("/", root.index, methods=["GET"]),
    Route("/health", root.health, methods=["GET"]),
    Route("/ready", root.ready, methods=["GET"]),
    Route("/v1/models", models.list_models, methods=["GET"]),
    Route("/v1/models/{name:path}", models.get_model, methods=["GET"]),
    Route("/v1/embeddings", embeddings.create_embeddings, methods=["POST"]),
    Route("/search", search.search, methods=["POST"]),
    Route("/classify", classify.classify, methods=["POST"]),
)
