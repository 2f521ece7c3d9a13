"""The door: one thin file per command, parse → call → print."""
