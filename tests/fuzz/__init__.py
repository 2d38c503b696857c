"""What reads the words of strangers, tried with input that nobody would write.

`python -m tests.fuzz TARGET --seconds N` looks for new paths through the code by coverage (atheris);
`tests/test_fuzz.py` replays what is in `corpus`, and mutations of it, without.
"""
