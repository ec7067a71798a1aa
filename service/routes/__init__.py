"""The routes, one small file per subject."""

from __future__ import annotations

from service.http.endpoints import Endpoint
from service.routes import (
    admin,
    classify,
    cohere,
    collections,
    embeddings,
    live,
    maps,
    models,
    ranking,
    root,
    searching,
    tei,
)

ENDPOINTS: tuple[Endpoint, ...] = (
    *root.ENDPOINTS,
    *models.ENDPOINTS,
    *embeddings.ENDPOINTS,
    *tei.ENDPOINTS,
    *ranking.ENDPOINTS,
    *cohere.ENDPOINTS,
    *classify.ENDPOINTS,
    *collections.ENDPOINTS,
    *searching.ENDPOINTS,
    *maps.ENDPOINTS,
    *live.ENDPOINTS,
    *admin.ENDPOINTS,
)
