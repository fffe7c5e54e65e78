"""A taxonomy or model to look at, in a terminal, a diagram or a page, and the reasons of an answer.

Imports `predict`, `model` and `taxonomy`.
"""
