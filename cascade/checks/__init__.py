"""What people should know about a taxonomy and its rows before they train on them, a function for each rule.

Imports `taxonomy`, `rows`, `backends` and `hosted`.
"""
