"""Prediction of very large sets: Parquet shards that several processes share, and that go on after any kill."""
