"""How well passages are found, how fast documents go in, and how fast a large store answers."""
