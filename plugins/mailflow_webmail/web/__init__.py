"""Requests to one webmail, and what is found in its pages."""
