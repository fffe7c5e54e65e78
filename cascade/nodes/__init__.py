"""The contract of node models, and those that are embedded here.

Imports `validation`, `text` and `system`: it knows no tree, no files of ours, no command line.
"""
