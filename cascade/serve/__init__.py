"""Answers and reviews over HTTP, and the pages in front of them.

Imports everything but `cli`, `sandbox` and `changes`.
"""
