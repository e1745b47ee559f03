-- The number is as much work for pgbench as the point lookup's.
\set aid random(1, :keys)
SELECT count(*), sum(abalance), avg(abalance) FROM pgbench_accounts;
