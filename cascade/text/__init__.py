"""What a text is before any model: features, near-duplicates, and texts that remember what was computed.

Imports `system`.
"""
