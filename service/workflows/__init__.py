"""What needs both models and heads: few-shot adaptation, and a head fused into a model's graph."""
