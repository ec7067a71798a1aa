"""Fitted heads as they are served, with numpy alone: scores, calibration, OOD score, abstention, files."""
