"""One module for each other tool: ``answer`` asks it, ``NAMES`` reads what it said (pattern of "check: message" -> the
catalogue's names)."""
