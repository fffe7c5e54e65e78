"""Node models that live at a service: settings, prices, files of examples, jobs,
questions, batches.

Imports `nodes` and what that may import.
"""
