\set code random_zipfian(1, 100000, 1.1)
UPDATE coded SET balance = balance + 1 WHERE code = :code;
