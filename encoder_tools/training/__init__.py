"""Training of embedding models: recipes, contrastive runs that resume exactly, LoRA, soups; needs the extra
``train``.
"""
