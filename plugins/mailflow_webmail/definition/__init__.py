"""What a webmail is described by: the language of definitions, and where they are."""
