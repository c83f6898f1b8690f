"""What a store knows of its songs: sources, recordings and their duplicates, artists, labels."""
