"""How many bytes a row of each table takes, and what an operation costs the server: for plans of capacity."""
