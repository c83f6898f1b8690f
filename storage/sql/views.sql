{#- The views that people ask, over the tables of the schema `stored`. -#}
{% for view in views %}
CREATE OR REPLACE VIEW {{ view.name | name }} AS
{%- if view.kind == "plain" %}
FROM stored.{{ view.of | name }};
{%- elif view.kind == "vectors" %}
SELECT * REPLACE (embedding::{{ view.vector }} AS embedding) FROM stored.{{ view.of | name }};
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
{%- elif view.kind == "heard_tags" %}
{%- if view.tags %}
SELECT scored.track_id, tag.name, scored.embedding[tag.place] AS score
FROM tag_scores AS scored CROSS JOIN (VALUES
{%- for tag in view.tags %}
    ({{ loop.index }}, {{ tag | text }}){{ "," if not loop.last }}
{%- endfor %}) AS tag(place, name);
{%- else %}
SELECT track_id, NULL::VARCHAR AS name, NULL::FLOAT AS score FROM tag_scores WHERE false;
{%- endif %}
{%- elif view.kind == "traits" %}
-- What speaks for voices is weighed so that half divides songs that are sung from those that are not.
WITH heard AS (
{%- if view.voices %}
    {%- set at, voices = view.voices %}
    SELECT track_id, (embedding[{{ at + 1 }}] / greatest(embedding[{{ at + 1 }}]
        {%- for place, weight in voices.items() %} + {{ weight }} * embedding[{{ place + 1 }}]{% endfor %}, 1e-9))::FLOAT AS instrumental
    FROM tag_scores
{%- else %}
    SELECT NULL::VARCHAR AS track_id, NULL::FLOAT AS instrumental WHERE false
{%- endif %}
)
SELECT {% for column in view.of %}part.{{ column | name }}, {% endfor %}heard.instrumental,
    CASE WHEN words.kind = 'text' THEN 'sung' WHEN words.kind = 'instrumental' THEN 'instrumental'
         WHEN heard.instrumental < 0.5 THEN 'sung' WHEN heard.instrumental >= 0.5 THEN 'instrumental' END AS voice
FROM stored.traits AS part SEMI JOIN stored.tracks AS track ON part.track_id = track.track_id
LEFT JOIN heard ON heard.track_id = part.track_id LEFT JOIN lyrics AS words ON words.track_id = part.track_id;
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
