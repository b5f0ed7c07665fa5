"""A small webmail that reads mbox files, and every trouble that webmails make, by switches."""
