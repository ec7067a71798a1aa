"""HTTP below the routes: the protocol, the middleware, request bodies, responses, endpoints and OpenAPI."""
