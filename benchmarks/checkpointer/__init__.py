"""The checkpointer beside LangGraph's own savers: `python -m benchmarks.checkpointer --help`."""
