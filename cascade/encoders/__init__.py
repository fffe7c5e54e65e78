"""Encoders: texts to vectors of fixed length. What is known of them, where they lie, how they come here.

Imports `system` and `errors`: it knows no tree, no rows and no node model.
"""
