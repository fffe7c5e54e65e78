"""From labelled rows to a model folder: data sets, negatives, thresholds, the plan and the fit.

Imports `model`, `backends`, `hosted` and what lies below them.
"""
