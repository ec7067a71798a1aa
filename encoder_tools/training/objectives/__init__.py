"""What training minimizes: contrastive and distillation losses, GradCache, and a teacher's vectors as targets."""
