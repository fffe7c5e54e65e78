"""Two taxonomies or models side by side, which groups a fit would train anew, and what is worth changing.

Imports `show`, `measure`, `learn` and what lies below them.
"""
