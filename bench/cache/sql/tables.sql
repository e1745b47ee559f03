-- Asked for by a column that its replica identity does not carry, so a change may concern any answer.
CREATE TABLE coded (id int PRIMARY KEY, code int NOT NULL, balance int NOT NULL, filler char(84)) WITH (fillfactor = 90);
INSERT INTO coded SELECT n, n, 0, '' FROM generate_series(1, 100000) AS n;
CREATE INDEX ON coded (code);
-- One row, whose value is the number of a commit.
CREATE TABLE ticks (id int PRIMARY KEY, value int NOT NULL);
INSERT INTO ticks VALUES (1, 0);
