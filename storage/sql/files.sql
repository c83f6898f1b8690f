{#- The store's files, as tables of the schema `stored`: for DuckDB by itself, which reads them by path. -#}
-- SimSong's views and macros over {{ url | remark }}
-- Written by `simsong sql --init` for what was published then; write it again when another model is published.
-- Read it with `duckdb -init FILE`, or run it in a notebook, R or DBeaver. DuckDB checks no page's checksum;
-- `simsong sql` and `simsong verify` do.
{%- if remote is not none %}
{%- if extension %}
LOAD {{ extension | text }};
{%- else %}
INSTALL httpfs;
LOAD httpfs;
{%- endif %}
-- Keys come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from a CREATE SECRET before this.
{%- for setting, value in remote.items() %}
SET {{ setting }} = {{ value | text }};
{%- endfor %}
{%- endif %}
CREATE SCHEMA IF NOT EXISTS stored;
{% for file in files %}
CREATE OR REPLACE VIEW stored.{{ file.name | name }} AS
{%- for paths in file.paths %}
SELECT {% for column in file.columns -%}
    {{ column.name | name }}{{ ", " if not loop.last }}{% endfor %}
    {%- if file.partition %}, {{ paths.value | text }} AS {{ file.partition | name }}
    {%- endif %}
FROM read_parquet([{{ paths.of | map("text") | join(", ") }}], hive_partitioning = false, schema = MAP {
    {%- for column in file.columns %}
    {{ column.name | text }}: {name: {{ column.name | text }}, type: {{ column.type | text }}, default_value: NULL}{{ "," if not loop.last }}
    {%- endfor %}}){{ ";" if loop.last else " UNION ALL" }}
{%- else %}
SELECT {% for column in file.columns -%}
    NULL::{{ column.type }} AS {{ column.name | name }}{{ ", " if not loop.last }}{% endfor %}
    {%- if file.partition %}, NULL::VARCHAR AS {{ file.partition | name }}{% endif %} WHERE false;
{%- endfor %}
{% endfor %}

CREATE OR REPLACE VIEW stored.totals AS
{%- if totals %}
FROM (VALUES
{%- for row in totals %}
    ({{ row.stage | text }}, {{ row.model | text if row.model else "NULL::VARCHAR" }}, {{ row.status | text }}, {{ row.reason | text if row.reason else "NULL::VARCHAR" }}, {{ row.songs }}::BIGINT){{ "," if not loop.last }}
{%- endfor %}) AS totals(stage, model, status, reason, songs);
{%- else %}
SELECT NULL::VARCHAR AS stage, NULL::VARCHAR AS model, NULL::VARCHAR AS status, NULL::VARCHAR AS reason,
    NULL::BIGINT AS songs WHERE false;
{%- endif %}
