"""Files of texts and labels, from bytes to rows, and the rows that have to be refused.

Imports `errors` and `system`; label names come in as a protocol.
"""
