"""Documents of offices and readers as text: PDF, Word, PowerPoint, Excel, EPUB, e-mail; needs the extra ``documents``.

Their libraries read what strangers wrote, so all of them run in a process of their own, see
:mod:`index.ingest.document_process`.
"""
