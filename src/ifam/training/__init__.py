"""Training: methods, optimizer, the Lightning module, and whole runs."""
