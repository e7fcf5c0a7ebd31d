"""How fast, how much memory, and how that follows the selection: ``ifam benchmark speed``."""
