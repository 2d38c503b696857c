"""A load generator: many tenants, a few busy and most quiet, whose agents do everything at once."""
