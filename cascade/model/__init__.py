"""A fitted model: its folder on disk, the walk through it, and what is decided on the walk.

Imports `taxonomy`, `nodes` and `system`.
"""
