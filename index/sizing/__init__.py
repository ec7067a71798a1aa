"""What a collection of any size needs: memory, disk, time and machines, from what was measured."""

from index.sizing.capacity import Capacity, MachineKind, Workload, plan_capacity

__all__ = ["Capacity", "MachineKind", "Workload", "plan_capacity"]
