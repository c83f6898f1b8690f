{#- What can be asked of the views. No parameter may have the name of a column that comes out. -#}
CREATE OR REPLACE MACRO centroid(vectors) AS
    list_transform(range(1, len(vectors[1]) + 1), lambda i: list_avg(list_transform(vectors, lambda v: v[i])))
    ::{{ vector }};
COMMENT ON MACRO centroid IS 'The mean of a list of vectors, e.g. centroid(list(embedding))';

CREATE OR REPLACE MACRO unit(v) AS list_transform(v, lambda x: x / sqrt({{ inner }}(v::{{ double }}, v::{{ double }})))::{{ vector }};
COMMENT ON MACRO unit IS 'A vector over its length';

CREATE OR REPLACE MACRO cosine(a, b) AS
    round({{ inner }}(a::{{ double }}, b::{{ double }})
          / sqrt({{ inner }}(a::{{ double }}, a::{{ double }}) * {{ inner }}(b::{{ double }}, b::{{ double }})), 12);
COMMENT ON MACRO cosine IS 'Of two published embeddings, -1 to 1; null or NaN where one has no direction';

-- The exact answer: the {{ marked }} further ids of recordings may be among the first, so as many more are looked at.
CREATE OR REPLACE MACRO similar_to_vector(v, k := 10) AS TABLE
WITH scored AS (
    SELECT s.track_id, s.artist, s.title, coalesce(s.duplicate_of, s.track_id) AS recording,
        cosine(s.embedding, v) AS score
    FROM songs AS s
), first AS (
    FROM scored WHERE isfinite(scored.score) ORDER BY scored.score DESC, scored.track_id LIMIT k::BIGINT + {{ marked }}
), once AS (
    FROM first QUALIFY row_number() OVER (PARTITION BY first.recording ORDER BY first.score DESC, first.track_id) = 1
)
SELECT row_number() OVER (ORDER BY once.score DESC, once.track_id) AS rank, once.score, once.artist, once.title,
    once.track_id
FROM once ORDER BY 1 LIMIT k::BIGINT;
COMMENT ON MACRO TABLE similar_to_vector IS
    'The k songs nearest to a vector, exactly, by cosine of the published embedding; each recording once';

CREATE OR REPLACE MACRO "similar"(track, k := 10) AS TABLE
WITH own AS (
    SELECT s.embedding, coalesce(s.duplicate_of, s.track_id) AS recording
    FROM songs AS s WHERE s.track_id = track::VARCHAR AND (k::BIGINT > {{ depth }})
), scored AS (
    SELECT s.track_id, coalesce(s.duplicate_of, s.track_id) AS recording, cosine(s.embedding, own.embedding) AS score
    FROM songs AS s CROSS JOIN own
    WHERE coalesce(s.duplicate_of, s.track_id) <> own.recording AND (k::BIGINT > {{ depth }})
), first AS (
    FROM scored WHERE isfinite(scored.score) ORDER BY scored.score DESC, scored.track_id LIMIT k::BIGINT + {{ marked }}
), once AS (
    FROM first QUALIFY row_number() OVER (PARTITION BY first.recording ORDER BY first.score DESC, first.track_id) = 1
), nearest AS (
    SELECT once.track_id, once.score, row_number() OVER (ORDER BY once.score DESC, once.track_id) AS rank FROM once
    UNION ALL
    SELECT n.similar_id, n.score, n.rank FROM neighbours AS n
    WHERE n.track_id = track::VARCHAR AND n.rank <= k::BIGINT AND k::BIGINT <= {{ depth }}
)
SELECT nearest.rank, nearest.score, s.artist, s.title, nearest.track_id
FROM nearest JOIN songs AS s USING (track_id) WHERE nearest.rank <= k::BIGINT ORDER BY 1;
COMMENT ON MACRO TABLE "similar" IS
    'The k songs nearest to a song, by its track_id, as `simsong similar --distinct` finds them; each recording once';

CREATE OR REPLACE MACRO neighbours(track) AS TABLE
SELECT n.rank, n.score, s.artist, s.title, n.similar_id AS track_id
FROM neighbours AS n JOIN songs AS s ON s.track_id = n.similar_id
WHERE n.track_id = track::VARCHAR ORDER BY 1;
COMMENT ON MACRO TABLE neighbours IS 'The songs nearest to a song, at most 100, as written when it was published';

CREATE OR REPLACE MACRO artist_key(name) AS coalesce(nullif(trim(regexp_replace(regexp_replace(regexp_replace(
    strip_accents(lower(name::VARCHAR)), '\s[\(\[]?(feat\.?|ft\.?|featuring)\s.*$', ''), '[^\pL\pN\pM]+', ' ', 'g'),
    '(^the\s)|(\sthe$)|\sthe(\s)', '\3', 'g')), ''), lower(name::VARCHAR));
COMMENT ON MACRO artist_key IS 'What two spellings of an artist share: no case, accents, punctuation, guests, "the"';

CREATE OR REPLACE MACRO artist_similar(name, k := 10) AS TABLE
WITH keyed AS (
    SELECT DISTINCT s.artist, artist_key(s.artist) AS key FROM songs AS s
), own AS (
    SELECT centroid(list(unit(s.embedding))) AS mean
    FROM songs AS s JOIN keyed USING (artist) WHERE keyed.key = artist_key(name)
)
SELECT row_number() OVER (ORDER BY round(avg(cosine(s.embedding, own.mean)), 9) DESC, min(s.artist)) AS rank,
    avg(cosine(s.embedding, own.mean)) * any_value(sqrt({{ inner }}(own.mean, own.mean))) AS score,
    min(s.artist) AS artist, count(*) AS songs
FROM songs AS s JOIN keyed USING (artist) CROSS JOIN own
WHERE keyed.key <> artist_key(name) AND own.mean IS NOT NULL
GROUP BY keyed.key ORDER BY 1 LIMIT k::BIGINT;
COMMENT ON MACRO TABLE artist_similar IS
    'The k artists whose songs are most like an artist''s, by the mean cosine of all pairs of their songs';

CREATE OR REPLACE MACRO album_similar(name, k := 10) AS TABLE
SELECT row_number() OVER (ORDER BY max(n.score) DESC, n.similar_id) AS rank, max(n.score) AS score,
    any_value(b.artist) AS artist, any_value(b.release) AS release, any_value(b.songs) AS songs
FROM albums AS a JOIN album_neighbours AS n USING (album_id) JOIN albums AS b ON b.album_id = n.similar_id
WHERE lower(a.release) = lower(name::VARCHAR) GROUP BY n.similar_id ORDER BY 1 LIMIT k::BIGINT;
COMMENT ON MACRO TABLE album_similar IS
    'The k albums most like an album (at most 50), by the cosine of the means of their songs'' embeddings';

CREATE OR REPLACE MACRO find(text, k := 5) AS TABLE
WITH scored AS (
    SELECT s.track_id, s.artist, s.title,
        CASE WHEN s.track_id = text::VARCHAR THEN 1 ELSE greatest(
            jaro_winkler_similarity(lower(s.artist || ' - ' || s.title), lower(text::VARCHAR)),
            jaro_winkler_similarity(lower(s.title), lower(text::VARCHAR))) END AS score
    FROM songs AS s
)
SELECT round(scored.score, 3) AS score, scored.artist, scored.title, scored.track_id
FROM scored ORDER BY scored.score DESC, scored.track_id LIMIT k::BIGINT;
COMMENT ON MACRO TABLE find IS
    'The k published songs whose "artist - title", or title, reads most like a text; 1 is the very same';

CREATE OR REPLACE MACRO "explain"(a, b) AS TABLE
WITH heard AS (
    SELECT cosine(x.embedding, y.embedding) AS score
    FROM songs AS x, songs AS y WHERE x.track_id = a::VARCHAR AND y.track_id = b::VARCHAR
), windows AS (
    SELECT list_cosine_similarity(x.embedding::DOUBLE[], y.embedding::DOUBLE[]) AS score,
        x.segment AS of_a, y.segment AS of_b
    FROM segment_embeddings AS x, segment_embeddings AS y WHERE x.track_id = a::VARCHAR AND y.track_id = b::VARCHAR
    ORDER BY 1 DESC, 2, 3 LIMIT 1
), times AS (
    SELECT p.track_id, p.segment, printf('%d:%02d-%d:%02d', floor(p.start_s / 60)::INT, floor(p.start_s % 60)::INT,
        floor(p.end_s / 60)::INT, floor(p.end_s % 60)::INT) AS span
    FROM segments AS p WHERE p.track_id IN (a::VARCHAR, b::VARCHAR)
), words AS (
    SELECT list_cosine_similarity(x.embedding::DOUBLE[], y.embedding::DOUBLE[]) AS score
    FROM lyric_embeddings AS x, lyric_embeddings AS y WHERE x.track_id = a::VARCHAR AND y.track_id = b::VARCHAR
), labels AS (
    SELECT 'genres' AS aspect, g.track_id, lower(g.name) AS name FROM genres AS g
    WHERE g.track_id IN (a::VARCHAR, b::VARCHAR) UNION
    SELECT 'tags', g.track_id, lower(g.name) FROM tags AS g WHERE g.track_id IN (a::VARCHAR, b::VARCHAR)
), counted AS (
    SELECT labels.aspect, labels.name, count(*) AS songs FROM labels GROUP BY ALL
), shared AS (
    SELECT counted.aspect, sum((counted.songs = CASE WHEN a::VARCHAR = b::VARCHAR THEN 1 ELSE 2 END)::INT) / count(*) AS score,
        string_agg(counted.name, ', ' ORDER BY counted.name) FILTER (counted.songs = CASE WHEN a::VARCHAR = b::VARCHAR THEN 1 ELSE 2 END) AS detail
    FROM counted GROUP BY 1
), told AS (
    SELECT 1 AS place, 'audio' AS aspect, (SELECT heard.score FROM heard) AS score, 'cosine of the songs' AS detail
    UNION ALL
    SELECT 2, 'windows', (SELECT windows.score FROM windows),
        (SELECT concat('most alike: ', coalesce(x.span, 'segment ' || windows.of_a), ' of a, ',
                       coalesce(y.span, 'segment ' || windows.of_b), ' of b')
         FROM windows LEFT JOIN times AS x ON x.track_id = a::VARCHAR AND x.segment = windows.of_a
         LEFT JOIN times AS y ON y.track_id = b::VARCHAR AND y.segment = windows.of_b)
    UNION ALL
    SELECT 3, 'lyrics', (SELECT words.score FROM words), 'cosine of the words'
    UNION ALL
    SELECT 4, 'artist', (x.artist = y.artist)::INT, CASE WHEN x.artist = y.artist THEN x.artist END
    FROM tracks AS x, tracks AS y WHERE x.track_id = a::VARCHAR AND y.track_id = b::VARCHAR
    UNION ALL
    SELECT CASE shared.aspect WHEN 'genres' THEN 5 ELSE 6 END, shared.aspect, shared.score, shared.detail FROM shared
    UNION ALL
    SELECT 7, 'listeners', max(l.score), 'Last.fm: people who hear one hear the other' FROM similars AS l
    WHERE (l.track_id = a::VARCHAR AND l.similar_id = b::VARCHAR)
        OR (l.track_id = b::VARCHAR AND l.similar_id = a::VARCHAR)
)
SELECT told.aspect, round(told.score, 4) AS score, told.detail
FROM told WHERE told.score IS NOT NULL
    AND EXISTS (FROM tracks AS x WHERE x.track_id = a::VARCHAR) AND EXISTS (FROM tracks AS y WHERE y.track_id = b::VARCHAR)
ORDER BY told.place;
COMMENT ON MACRO TABLE "explain" IS
    'Why two songs are near: the cosine of their sound, the two windows most alike, of their lyrics, what they share';

CREATE OR REPLACE MACRO funnel() AS TABLE
WITH reasons AS (
    SELECT o.stage, o.model, o.status, o.reason, count(*) AS songs FROM outcomes_all AS o
    WHERE o.stage NOT IN (SELECT t.stage FROM stored.totals AS t) GROUP BY ALL
    UNION ALL
    FROM stored.totals
), counted AS (
    SELECT r.stage, r.model, coalesce(sum(r.songs) FILTER (r.status = 'ok'), 0) AS ok,
        coalesce(sum(r.songs) FILTER (r.status = 'failed'), 0) AS failed,
        coalesce(sum(r.songs) FILTER (r.status = 'pending'), 0) AS pending,
        string_agg(r.songs || ' ' || r.reason, ', ' ORDER BY r.songs DESC, r.reason) FILTER (r.status <> 'ok') AS reasons
    FROM reasons AS r GROUP BY 1, 2
)
SELECT c.stage, c.ok::BIGINT AS ok, c.failed::BIGINT AS failed, c.pending::BIGINT AS pending, c.reasons
FROM counted AS c QUALIFY row_number() OVER (PARTITION BY c.stage ORDER BY c.ok DESC, c.model NULLS FIRST) = 1
ORDER BY list_position({{ stages }}, c.stage), 1;
COMMENT ON MACRO TABLE funnel IS 'How many songs came through each stage, and why others did not, as `simsong status` has it';

CREATE OR REPLACE MACRO failures(of_stage := NULL) AS TABLE
SELECT o.stage, o.status, o.reason, o.detail, o.track_id, t.artist, t.title, o.attempts, o.at
FROM outcomes AS o LEFT JOIN tracks AS t USING (track_id)
WHERE o.status <> 'ok' AND (of_stage IS NULL OR o.stage = of_stage::VARCHAR) ORDER BY o.stage, o.reason, o.track_id;
COMMENT ON MACRO TABLE failures IS
    'The songs that failed or are pending, at a stage or at all, and why';
