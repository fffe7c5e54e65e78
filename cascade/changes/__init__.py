"""Two taxonomies or models side by side: what differs, and which groups a fit would train anew.

Imports `show`, `learn` and what lies below them.
"""
