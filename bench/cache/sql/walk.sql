-- Each key once, by all clients together.
\set turn :turn + 1
\set aid :turn * :clients + :client_id + 1
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
