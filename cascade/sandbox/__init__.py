"""A service in the same wire format that learns and answers on this machine, for trials and tests.

Imports `nodes` and what that may import, and nothing of `hosted`.
"""
