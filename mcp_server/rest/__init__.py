"""REST over the same memory: JSON in and out, described by OpenAPI 3.1."""
