"""What the command line does with files, for programs: fit, predict, report."""
