"""What recall and remember cost, against how much is stored: `python -m benchmarks.recall`.

How well recall finds what was said is measured by `memory-plugin eval`.
"""
