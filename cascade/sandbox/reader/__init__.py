"""A model that reads: it finds choices, examples and the text in the very messages, and weighs words.

Imports `text`, `errors` and its neighbours in `sandbox`; nothing is looked up in files.
"""
