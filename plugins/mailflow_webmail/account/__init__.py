"""One account at a webmail: logged in, listed, read, relieved of messages."""
