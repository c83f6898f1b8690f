"""Networks that others trained on music, and what they make of a song. Only `musicnn` imports torch."""
