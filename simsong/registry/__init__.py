"""Models in the store: which there are, what each was trained on, which is published."""
