"""Studies: variants of a configuration, each trained with several seeds, compared."""
