"""The speech service that every image runs: ``python -m serve``.

It knows nothing of Docker or of the matrix: what it is, it learns from environment variables (``serve.settings``)
and from ``/app/image.json`` (``serve.image``).
"""
