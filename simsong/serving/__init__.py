"""`simsong serve`: the HTTP API, the page, the calls that players make. It reads a store, without Prefect."""
