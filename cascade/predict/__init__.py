"""A fitted model answers: `Cascade`, prediction rows, files of any length.

Imports `learn` (for `Cascade.fit`), `model`, `rows` and what lies below them.
"""
