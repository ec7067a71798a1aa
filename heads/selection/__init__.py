"""What is selected on held-out examples, with scikit-learn: regularization, calibration, OOD score."""
