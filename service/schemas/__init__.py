"""What goes over the wire. Requests are msgspec structs (checked while they are decoded), responses are dataclasses.

Unknown fields of a request are ignored, as OpenAI's clients expect: they send ``user`` and fields of other servers.
"""
