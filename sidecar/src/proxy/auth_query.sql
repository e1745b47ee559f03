SELECT rolname,
       -- A password that is no longer valid is none.
       CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END
FROM pg_catalog.pg_authid
WHERE rolname = $1 AND rolcanlogin
