-- What all transfers together come to; the first three and the last are the same when none was lost or halved.
SELECT 'sums:', (SELECT sum(balance) FROM MINE.accounts), (SELECT sum(balance) FROM MINE.tellers),
    (SELECT sum(balance) FROM MINE.branches), count(*), sum(delta),
    md5(string_agg(format('%s,%s,%s,%s', teller, branch, account, delta), ';'
        ORDER BY teller, branch, account, delta)) FROM MINE.history;
