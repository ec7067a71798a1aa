"""How the shipped model was made: its recipes, its corpus, and the script that packs it."""
