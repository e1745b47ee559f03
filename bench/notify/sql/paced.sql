INSERT INTO ticks VALUES (nextval('tick_ids'), now_us(), md5(random()::text) || md5(random()::text));
