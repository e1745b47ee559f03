\set code random_zipfian(1, 100000, 1.1)
SELECT balance FROM coded WHERE code = :code;
