"""`mailflow webmail ...`: which webmails are known, one tried, and another described."""
