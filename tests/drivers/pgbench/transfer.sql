-- A transaction as in pgbench's own script, one statement after the other.
\set account random(1, 10000)
\set branch random(1, 5)
\set teller random(1, 50)
\set delta random(-5000, 5000)
BEGIN;
UPDATE MINE.accounts SET balance = balance + :delta WHERE id = :account;
SELECT balance FROM MINE.accounts WHERE id = :account;
UPDATE MINE.tellers SET balance = balance + :delta WHERE id = :teller;
UPDATE MINE.branches SET balance = balance + :delta WHERE id = :branch;
INSERT INTO MINE.history VALUES (:teller, :branch, :account, :delta);
END;
