"""Node models that are fine-tunes at a service: settings and prices, files of examples, jobs and their
ledger, questions and their answers, batches.

Imports `nodes` and what that may import; `openai` and `httpx2` are imported here and nowhere else.
"""
