"""The query language: one way to say which mail is meant."""
