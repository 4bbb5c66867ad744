"""The zoo: the frozen networks that ship with pixelzip, each beside a card that describes it."""
