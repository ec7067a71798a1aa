"""Heads that can be fitted, as scikit-learn estimators, and the pipeline from an estimator to a fitted head."""
