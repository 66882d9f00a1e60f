"""The shape of a database as its catalogs have it, to compare one with another."""

from __future__ import annotations

import psycopg

SHAPE = """
WITH schemas AS (
    SELECT oid, nspname, nspacl FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), relations AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN schemas n ON n.oid = c.relnamespace
), functions AS (
    SELECT p.*, p.oid::regprocedure::text AS name FROM pg_proc p JOIN schemas n ON n.oid = p.pronamespace
)
SELECT 'schema ' || nspname, coalesce(nspacl::text, '') FROM schemas
UNION ALL
SELECT 'relation ' || name, concat_ws(' ', relkind, relpersistence, reloptions, relacl) FROM relations
UNION ALL
SELECT format('column %s.%I', r.name, a.attname),
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), c.collname, a.attnotnull, a.attidentity, a.attgenerated,
                 pg_get_expr(d.adbin, d.adrelid), a.attacl)
FROM relations r
JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation c ON c.oid = a.attcollation
UNION ALL
SELECT format('constraint %I of %s', c.conname, r.name), concat_ws(' ', pg_get_constraintdef(c.oid), c.convalidated)
FROM relations r JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL
SELECT 'index ' || r.name, concat_ws(' ', pg_get_indexdef(r.oid), i.indisvalid)
FROM relations r JOIN pg_index i ON i.indexrelid = r.oid
UNION ALL
SELECT format('trigger %I of %s', t.tgname, r.name), concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'view ' || name, pg_get_viewdef(oid) FROM relations WHERE relkind = 'v'
UNION ALL
SELECT 'function ' || name, concat_ws(' ', pg_get_functiondef(oid), proacl) FROM functions
UNION ALL
SELECT 'default privileges in ' || nspname, concat_ws(' ', defaclobjtype, defaclacl)
FROM pg_default_acl JOIN schemas n ON n.oid = defaclnamespace
UNION ALL
SELECT format('comment on %s %s', i.type, i.identity), d.description
FROM pg_description d
CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE EXISTS (SELECT FROM schemas n WHERE n.nspname = coalesce(i.schema, i.name)) AND i.type <> 'extension'
"""


def shape(connection: psycopg.Connection) -> dict[str, str]:
    """Each object of our schemas, and what it is; the order of a table's columns is left out."""
    found = connection.execute(SHAPE).fetchall()
    named = dict(found)
    assert len(named) == len(found) > 1000
    return named
