"""`python -m memory_plugin.cli`, the same as the installed command."""

from memory_plugin.cli import main

if __name__ == "__main__":
    main()
