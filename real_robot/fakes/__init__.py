"""Controllers that exist in software only, for tests and the bench."""
