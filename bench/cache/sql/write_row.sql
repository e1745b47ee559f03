\set aid random_zipfian(1, 100000, 1.1)
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
