"""Which texts teach most, queues of them, what people answered, and the way to Label Studio and back.

Imports `predict` and what lies below it.
"""
