"""How training runs: the loop, checkpoints, the schedule, several processes, the device, the log and its curves."""
