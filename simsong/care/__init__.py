"""Looking after a store: planning a run, counting what came through, reopening failures, verifying."""
