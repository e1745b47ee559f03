-- What some types are, and all that they are made of: a row a type, and after that of a composite type a row an
-- attribute. Columns: oid, kind, the type that it is over or has elements of, delimiter or name. json_categorize_type
-- in PostgreSQL's json.c (jsonfuncs.c since 16) is what decides for to_json.
WITH RECURSIVE made AS (
    SELECT t.oid FROM pg_catalog.pg_type t WHERE t.oid = ANY ('{$oids}'::pg_catalog.oid[])
    UNION
    SELECT part.oid
    FROM made
    JOIN pg_catalog.pg_type t ON t.oid = made.oid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype AS oid WHERE t.typtype = 'd'
        UNION ALL
        -- Not the elements of a point, which is no array though it can be subscripted.
        SELECT t.typelem
        WHERE t.typtype <> 'd' AND t.typelem <> 0
            AND t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
        UNION ALL
        SELECT a.atttypid
        FROM pg_catalog.pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) part
),
types AS (
    SELECT
        t.oid,
        CASE
            WHEN t.typtype = 'd' THEN 'domain'
            WHEN t.typelem <> 0
                AND t.typsubscript = 'pg_catalog.array_subscript_handler'::pg_catalog.regproc
            -- An array that writes itself in its own way can't be read.
            THEN CASE t.typoutput
                WHEN 'pg_catalog.array_out'::pg_catalog.regproc THEN 'array'
                ELSE 'cast'
            END
            WHEN t.typtype = 'c' THEN 'composite'
            ELSE coalesce(own.kind, 'text')
        END AS kind,
        CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.typelem END AS part,
        element.typdelim::pg_catalog.text AS label,
        t.typrelid,
        t.typtype
    FROM made
    JOIN pg_catalog.pg_type t ON t.oid = made.oid
    LEFT JOIN pg_catalog.pg_type element ON element.oid = t.typelem
    LEFT JOIN LATERAL (
        SELECT
            CASE
                WHEN p.prosrc = 'hstore_to_json' AND p.probin LIKE '%hstore' THEN 'hstore'
                ELSE 'cast'
            END AS kind
        FROM pg_catalog.pg_cast c
        -- A cast by way of the text has no function, and gives what the text gives.
        JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
        WHERE c.castsource = t.oid
            AND c.casttarget = 'pg_catalog.json'::pg_catalog.regtype
            -- FirstNormalObjectId: to_json does not ask whether a type of the system has a cast.
            AND t.oid >= 16384
    ) own ON true
),
answer AS (
    SELECT oid, kind, part, label, 0 AS position FROM types
    UNION ALL
    SELECT t.oid, 'attribute', a.atttypid, a.attname::pg_catalog.text, a.attnum
    FROM types t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT oid::pg_catalog.text, kind, part::pg_catalog.text, label
FROM answer
ORDER BY answer.oid, position
