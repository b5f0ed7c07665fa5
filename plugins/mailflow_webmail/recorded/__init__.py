"""What a browser has recorded of a visit to a webmail, and the definition that is drafted of it."""
