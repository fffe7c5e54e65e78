"""What keeps a fit honest: stratified folds, and the calibration of held-out scores.

Imports `text` and `system`.
"""
