"""The engine: it owns policy and durability, and knows no protocol.

Rule of the package: plugins never import it; what they need is in `mailflow`.
"""
