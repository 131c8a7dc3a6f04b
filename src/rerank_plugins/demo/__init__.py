"""The demo and the keyword traps: the commands, and what `examples/` shares with them."""
