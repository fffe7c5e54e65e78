"""Node models that share a fine-tune of one's own: a trunk, a head for each group, and what trains them.

Imports `nodes` and what that may import; torch, transformers and peft are imported here and nowhere else,
and only where something is trained.
"""
