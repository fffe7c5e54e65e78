"""A fitted model answers: looks at texts, prediction rows, files of any length.

Imports `backends`, `model`, `rows` and what lies below them.
"""
