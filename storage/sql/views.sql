{#- The views that people ask, over the tables of the schema `stored`. -#}
{% for view in views %}
CREATE OR REPLACE VIEW {{ view.name | name }} AS
{%- if view.kind == "plain" %}
FROM stored.{{ view.of | name }};
{%- elif view.kind == "catalogue" %}
-- Parts keep the rows of songs that left the catalogue.
FROM stored.{{ view.of | name }} AS part SEMI JOIN stored.tracks AS track ON part.track_id = track.track_id;
{%- elif view.kind == "songs" %}
SELECT track_id, artist, title, release, year, duration_s, duplicate_of, duplicate_by,
    embedding::{{ vector }} AS embedding
FROM stored.songs AS song
{%- if gone %} SEMI JOIN stored.tracks AS track ON song.track_id = track.track_id{% endif %};
{%- elif view.kind == "exported" %}
SELECT part.* EXCLUDE (embedding), {{ (model or "") | text }} AS model,
    part.embedding::{{ view.vector }} AS embedding
FROM (SELECT {{ view.key | join(", ") }}, embedding FROM stored.{{ view.of | name }}) AS part
{%- if gone %} SEMI JOIN stored.tracks AS track ON part.track_id = track.track_id{% endif %};
{%- elif view.kind == "current" %}
SELECT part.* REPLACE (part.embedding::{{ view.vector }} AS embedding)
FROM stored.{{ view.of | name }} AS part SEMI JOIN stored.tracks AS track ON part.track_id = track.track_id
WHERE part.model = {{ (view.model or "") | text }};
{%- elif view.kind == "neighbours" %}
{%- if gone %}
SELECT near.* FROM stored.neighbours AS near
SEMI JOIN songs AS song ON near.track_id = song.track_id SEMI JOIN songs AS other ON near.similar_id = other.track_id
{%- else %}
FROM stored.neighbours
{%- endif %}
{#- Those of another embedding than the one that is published are none. #}
{%- if not fresh %} WHERE false{% endif %};
{%- elif view.kind == "outcomes_all" %}
SELECT track_id, split_part(stage, '-', 1) AS stage,
    nullif(regexp_replace(stage, '^[^-]*-?', ''), '') AS model, * EXCLUDE (track_id, stage)
FROM (
    FROM stored.outcomes WHERE stage = {{ unfiltered | text }}
    UNION ALL
    FROM stored.outcomes AS part SEMI JOIN stored.tracks AS track ON part.track_id = track.track_id
    WHERE part.stage <> {{ unfiltered | text }}
);
{%- elif view.kind == "outcomes" %}
FROM outcomes_all WHERE CASE WHEN false THEN false
{%- for stage, models in current.items() %}
    WHEN stage = {{ stage | text }} THEN model IN ({{ models | map("text") | join(", ") }})
{%- endfor %}
    ELSE true END;
{%- endif %}
COMMENT ON VIEW {{ view.name | name }} IS {{ view.about | text }};
{%- for column, about in view.columns.items() %}
COMMENT ON COLUMN {{ view.name | name }}.{{ column | name }} IS {{ about | text }};
{%- endfor %}
{% endfor %}
