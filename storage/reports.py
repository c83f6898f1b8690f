"""Where the store keeps what its stages report: keys of files below `reports/`."""

CATALOGUE = "reports/catalogue.json"        # what ingest read, kept and dropped
CHOICE = "reports/choice.json"              # which embedding the stage `choose` found best
GATE = "reports/gate.json"                  # the latest verdict on what was to follow what is published
EVALUATION = "reports/evaluation.json"      # every method's figures
QUERIES = "reports/queries.parquet"         # each query's
REPORT = "reports/report.html"
STUDIES = "reports/studies"                 # a study's figures each
BROUGHT = "reports/brought"                 # figures of embeddings that somebody brought
