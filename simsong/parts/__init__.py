"""Parts of tables: what each is made from, whether it is stale, computing it song by song."""
