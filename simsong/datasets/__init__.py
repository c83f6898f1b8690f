"""What a training or an evaluation reads of a store."""
