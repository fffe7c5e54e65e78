"""Figures of a model on labelled rows, what is lost where, two models compared, and the page about it.

Imports `learn.truth`, `model`, `taxonomy` and `rows`.
"""
