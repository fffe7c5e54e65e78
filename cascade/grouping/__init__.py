"""Groups for labels that have none yet, proposed from their names, their texts and which go together.

Knows texts, lists of labels and names; no files and no taxonomy. Imports `system`.
"""
