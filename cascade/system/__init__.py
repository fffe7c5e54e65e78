"""What the machine offers, known to nobody in particular: files that appear whole, locks, arrays and JSON

without trust, compiled functions, workers. Imports only `errors`.
"""
