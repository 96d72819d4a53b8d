"""The main job, end to end on real data, checked against an independent account of it."""
