"""What a collection of any size needs: memory, disk, time and machines, from what was measured."""
