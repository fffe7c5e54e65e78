"""Node models that are asked and not trained: the words of a question, ways to answer, examples, short lists.

Imports `hosted`, by which everything is asked, `nodes`, `validation` and what these may import.
"""
