"""What this machine offers: memory, disk, processors, accelerators."""
