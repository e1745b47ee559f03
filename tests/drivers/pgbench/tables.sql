-- The tables of the pgbench driver: those of TPC-B in a schema of their own. MINE stands for its name.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS MINE CASCADE;
CREATE SCHEMA MINE;
CREATE TABLE MINE.branches (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0);
CREATE TABLE MINE.tellers (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0);
CREATE TABLE MINE.accounts (id int PRIMARY KEY, balance int NOT NULL DEFAULT 0);
CREATE TABLE MINE.history (teller int, branch int, account int, delta int);
INSERT INTO MINE.branches SELECT generate_series(1, 5);
INSERT INTO MINE.tellers SELECT generate_series(1, 50);
INSERT INTO MINE.accounts SELECT generate_series(1, 10000);
