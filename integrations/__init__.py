"""Collections behind the interfaces of other frameworks: LangChain, LlamaIndex, Haystack, and plain retrievers.

Each module needs its framework (extras ``langchain``, ``llama-index`` and ``haystack``); :mod:`integrations.retriever`
needs none.
"""
