"""Node models of several tiers: words, what they mean, a service; each answers where it is sure.

Imports `nodes` and `hosted`.
"""
