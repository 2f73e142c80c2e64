"""Tar shards, as WebDataset and open_clip lay them out."""
