"""A service in OpenAI's wire format that learns and answers on this machine, for trials and tests:
endpoints over a storage, with workers for jobs and batches.

Imports `nodes` and what that may import, and nothing of `hosted`.
"""
