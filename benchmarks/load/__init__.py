"""Parts of ``benchmarks.service_load``: texts, a client that costs little, and the servers under load."""
