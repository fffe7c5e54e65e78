"""The taxonomy file, read with places, checked and frozen, and the graph of its names.

Imports `system` and `errors`: it knows no rows and no models.
"""
