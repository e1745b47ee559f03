-- The tables of src/model.rs. All values are integers, and each row has a version.
CREATE ROLE app LOGIN PASSWORD 'secret';
ALTER ROLE postgres PASSWORD 'secret';

CREATE TABLE items (id int PRIMARY KEY, grp int NOT NULL, v bigint NOT NULL);
CREATE TABLE orders (
    id int PRIMARY KEY,
    item int NOT NULL REFERENCES items ON UPDATE CASCADE ON DELETE CASCADE,
    v bigint NOT NULL
);
CREATE INDEX ON orders (item);

-- What a statement writes without naming it.
CREATE TABLE audit (item int PRIMARY KEY, v bigint NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO audit VALUES (NEW.id, NEW.v) ON CONFLICT (item) DO UPDATE SET v = excluded.v;
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER UPDATE ON items FOR EACH ROW EXECUTE FUNCTION note();
CREATE FUNCTION touch(item int, version bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
BEGIN
    UPDATE items SET v = version WHERE id = item;
    GET DIAGNOSTICS touched = ROW_COUNT;
    RETURN touched;
END
$$;

CREATE TABLE owned (id int NOT NULL, owner int NOT NULL, v bigint NOT NULL);
ALTER TABLE owned REPLICA IDENTITY FULL;

CREATE TABLE parts (id int, region int, v bigint NOT NULL, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES IN (3);

CREATE TABLE wide (id int PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE secrets (id int PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE names (name text PRIMARY KEY, v bigint NOT NULL);

-- Large transactions, which hold the reader up.
CREATE TABLE bulk (id int PRIMARY KEY, filler text);

CREATE TABLE switches (id int PRIMARY KEY, setting int NOT NULL, v bigint NOT NULL);
INSERT INTO switches VALUES (1, 1, 1), (2, 1, 2), (3, 0, 3), (4, 1, 4), (5, 0, 5);
CREATE VIEW chosen AS SELECT id, v FROM items WHERE grp = 1;

INSERT INTO items SELECT n, n % 3, 100 + n FROM generate_series(1, 12) n;
INSERT INTO orders SELECT n, n % 12 + 1, 200 + n FROM generate_series(1, 24) n;
INSERT INTO audit SELECT n, 300 + n FROM generate_series(1, 12) n;
INSERT INTO owned SELECT n, n % 6 + 1, 400 + n FROM generate_series(1, 12) n;
INSERT INTO parts SELECT n, n % 3 + 1, 500 + n FROM generate_series(1, 12) n;
INSERT INTO wide SELECT n, 600 + n FROM generate_series(1, 12) n;
INSERT INTO secrets SELECT n, 700 + n FROM generate_series(1, 12) n;
INSERT INTO names SELECT 'n' || n, 800 + n FROM generate_series(1, 12) n;
INSERT INTO bulk SELECT n, repeat('x', 50) FROM generate_series(1, 3000) n;

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO app;
