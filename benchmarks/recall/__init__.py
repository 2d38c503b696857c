"""How well recall finds what was said: `python -m benchmarks.recall PATH...`."""
