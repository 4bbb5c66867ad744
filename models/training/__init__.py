"""Training: the loop (`train`) and what it draws, `photographs`, their `planes`, small `images`."""
