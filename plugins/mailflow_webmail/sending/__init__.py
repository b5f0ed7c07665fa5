"""A mail, sent by the form that a webmail has for people."""
