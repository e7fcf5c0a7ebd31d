"""Images from disk to batches: one table for every layout, transforms that move annotations along, loaders."""
