// pgjdbc against a server: a transcript that is the same whatever stands between.
// Java compiles and runs the one file: java -cp postgresql.jar Single.java URL SCHEMA

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public class Single {
    static final int BIG = 5_000_000;
    static final int MANY = 20_000;
    static final long DEADLINE = 20_000;
    static String url;
    static String schema;
    static boolean pooled;
    static Properties login = new Properties();

    interface Work {
        void run() throws Exception;
    }

    interface Section {
        void run(Connection c) throws Exception;
    }

    // --- telling ---

    static void say(String what, Object... values) {
        StringBuilder line = new StringBuilder(what).append(':');
        for (Object value : values) {
            line.append(' ').append(value instanceof byte[] ? hex((byte[]) value) : String.valueOf(value));
        }
        System.out.println(line);
    }

    static String hex(byte[] data) {
        StringBuilder text = new StringBuilder();
        for (byte b : data) {
            text.append(String.format("%02x", b));
        }
        return text.toString();
    }

    /** Stands for data that is too long to print. */
    static String digest(byte[] data) throws Exception {
        return data.length + " bytes " + hex(MessageDigest.getInstance("MD5").digest(data));
    }

    static String digest(String text) throws Exception {
        return digest(text.getBytes(StandardCharsets.UTF_8));
    }

    static void tell(String what, SQLException e) {
        ServerErrorMessage m = e instanceof PSQLException ? ((PSQLException) e).getServerErrorMessage() : null;
        say(what, e.getSQLState(), m == null ? e.getMessage() : String.join(" | ", String.valueOf(m.getSeverity()),
            String.valueOf(m.getMessage()), String.valueOf(m.getDetail()), String.valueOf(m.getConstraint()),
            String.valueOf(m.getTable()), String.valueOf(m.getPosition())));
    }

    /** Runs what has to fail, and tells how. */
    static void failing(String what, Work work) throws Exception {
        try {
            work.run();
        } catch (SQLException e) {
            tell(what, e);
            return;
        }
        throw new AssertionError(what + " did not fail");
    }

    // --- asking ---

    /** The statement with `s.` standing for the schema. */
    static String q(String text) {
        return text.replaceAll("\\bs\\.", schema + ".");
    }

    /** From a URL such as libpq's to one of JDBC. Parameters given as words come on top. */
    static Connection connect(String... more) throws Exception {
        Properties all = new Properties();
        all.putAll(login);
        for (int i = 0; i < more.length; i += 2) {
            all.setProperty(more[i], more[i + 1]);
        }
        return DriverManager.getConnection(url, all);
    }

    static String decoded(String text) {
        return URLDecoder.decode(text.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    static void understand(String libpq) throws Exception {
        URI uri = new URI(libpq);
        url = "jdbc:postgresql://" + uri.getHost() + ":" + (uri.getPort() < 0 ? 5432 : uri.getPort()) + uri.getRawPath();
        String[] who = uri.getRawUserInfo().split(":", 2);
        login.setProperty("user", decoded(who[0]));
        if (who.length > 1) {
            login.setProperty("password", decoded(who[1]));
        }
        for (String pair : uri.getRawQuery() == null ? new String[0] : uri.getRawQuery().split("&")) {
            String[] parts = pair.split("=", 2);
            String name = parts[0].equals("application_name") ? "ApplicationName" : parts[0];
            login.setProperty(name, decoded(parts[1]));
        }
    }

    static void run(Connection c, String sql) throws Exception {
        try (Statement s = c.createStatement()) {
            s.execute(q(sql));
        }
    }

    static String ask(Connection c, String sql, Object... parameters) throws Exception {
        try (PreparedStatement p = c.prepareStatement(q(sql))) {
            for (int i = 0; i < parameters.length; i++) {
                p.setObject(i + 1, parameters[i]);
            }
            try (ResultSet r = p.executeQuery()) {
                return r.next() ? r.getString(1) : "nothing";
            }
        }
    }

    // --- sections ---

    static void types(Connection c) throws Exception {
        run(c, "CREATE TABLE s.types (i int, b bigint, n numeric, f float8, t text, y bytea, o boolean, w timestamptz,"
            + " d date, j jsonb, u uuid, a int[], ta text[], x text)");
        byte[] bytes = new byte[256];
        for (int i = 0; i < 256; i++) {
            bytes[i] = (byte) i;
        }
        try (PreparedStatement p = c.prepareStatement(q("INSERT INTO s.types VALUES (?,?,?,?,?,?,?,?,?,?::jsonb,?,?,?,?)"))) {
            // Often enough that the driver changes to a named statement and to the binary format.
            for (int i = 0; i < 8; i++) {
                p.setInt(1, -42 + i);
                p.setLong(2, 1L << 62);
                p.setBigDecimal(3, new BigDecimal("12345678901234567890.0987654321"));
                p.setDouble(4, 0.1);
                p.setString(5, "Zürich 東京 🐘 'q' \\ \n");
                p.setBytes(6, bytes);
                p.setBoolean(7, true);
                p.setObject(8, OffsetDateTime.of(2024, 2, 29, 23, 59, 59, 123456000, ZoneOffset.UTC));
                p.setObject(9, LocalDate.of(1999, 12, 31));
                p.setString(10, "{\"a\": [1, null, \"é\"]}");
                p.setObject(11, new UUID(0, 7));
                p.setArray(12, c.createArrayOf("int4", new Object[] {1, 2, null}));
                p.setArray(13, c.createArrayOf("text", new Object[] {"a", "b\"c", null}));
                p.setNull(14, Types.VARCHAR);
                p.executeUpdate();
            }
        }
        try (PreparedStatement p = c.prepareStatement(q("SELECT * FROM s.types WHERE i = ?"))) {
            for (int i = 0; i < 8; i++) {
                p.setInt(1, -42 + i);
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    Array ints = r.getArray(12);
                    Array texts = r.getArray(13);
                    say("types", r.getInt(1), r.getLong(2), r.getBigDecimal(3), r.getDouble(4), r.getString(5), r.getBytes(6),
                        r.getBoolean(7), r.getObject(8, OffsetDateTime.class).withOffsetSameInstant(ZoneOffset.UTC),
                        r.getObject(9, LocalDate.class), r.getString(10), r.getObject(11, UUID.class),
                        Arrays.toString((Object[]) ints.getArray()), Arrays.toString((Object[]) texts.getArray()),
                        r.getString(14), r.wasNull());
                }
            }
        }
        try (ResultSet r = c.getMetaData().getColumns(null, schema, "types", "%")) {
            while (r.next()) {
                say("column", r.getString("COLUMN_NAME"), r.getString("TYPE_NAME"), r.getInt("NULLABLE"));
            }
        }
    }

    static void errors(Connection c) throws Exception {
        run(c, "CREATE TABLE s.errors (id int PRIMARY KEY, v int NOT NULL CHECK (v > 0))");
        run(c, "INSERT INTO s.errors VALUES (1, 1), (2, 2)");
        failing("unique", () -> run(c, "INSERT INTO s.errors VALUES (1, 1)"));
        failing("check", () -> run(c, "INSERT INTO s.errors VALUES (3, -1)"));
        failing("syntax", () -> run(c, "SELECT FROM WHERE"));
        failing("syntax, with parameters", () -> ask(c, "SELECT ? FROM WHERE", 1));
        failing("no such table", () -> run(c, "SELECT * FROM s.nothing"));
        failing("division", () -> ask(c, "SELECT 1 / ?", 0));
        failing("the second of two", () -> run(c, "SELECT 1; SELECT 1/0; SELECT 3"));
        try (PreparedStatement p = c.prepareStatement("SELECT 12 / ?")) {
            List<String> got = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                p.setInt(1, i % 4);
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    got.add(r.getString(1));
                } catch (SQLException e) {
                    got.add(e.getSQLState());
                }
            }
            say("errors among prepared", got);
        }
        say("still there", ask(c, "SELECT count(*) FROM s.errors"));
    }

    static void transactions(Connection c) throws Exception {
        run(c, "CREATE TABLE s.tx (id int PRIMARY KEY)");
        String ids = "SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM s.tx";
        c.setAutoCommit(false);
        run(c, "INSERT INTO s.tx VALUES (1)");
        c.commit();
        run(c, "INSERT INTO s.tx VALUES (2)");
        failing("error in a transaction", () -> run(c, "SELECT 1/0"));
        failing("after the error", () -> ask(c, "SELECT ?", 1));
        c.rollback();
        say("rolled back", ask(c, ids));
        c.rollback();
        run(c, "INSERT INTO s.tx VALUES (3)");
        Savepoint one = c.setSavepoint("one");
        failing("in a savepoint", () -> run(c, "INSERT INTO s.tx VALUES (4), (1)"));
        c.rollback(one);
        Savepoint two = c.setSavepoint();
        run(c, "INSERT INTO s.tx VALUES (5)");
        c.releaseSavepoint(two);
        c.commit();
        say("savepoints", ask(c, ids));
        c.rollback();
        c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        say("serializable", ask(c, "SHOW transaction_isolation"));
        c.commit();
        c.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        c.setReadOnly(true);
        failing("read only", () -> run(c, "DELETE FROM s.tx"));
        c.rollback();
        c.setReadOnly(false);
        c.setAutoCommit(true);
        failing("two statements, the second wrong", () -> run(c, "BEGIN; INSERT INTO s.tx VALUES (1)"));
        run(c, "ROLLBACK");
        say("at the end", ask(c, ids));
    }

    static void prepared(Connection c) throws Exception {
        run(c, "CREATE TABLE s.prepared (id int, v text)");
        List<String> got = new ArrayList<>();
        try (PreparedStatement insert = c.prepareStatement(q("INSERT INTO s.prepared VALUES (?, ?)"));
            PreparedStatement select = c.prepareStatement(q("SELECT v FROM s.prepared WHERE id = ?"))) {
            select.unwrap(PGStatement.class).setPrepareThreshold(3);
            for (int i = 0; i < 15; i++) {
                insert.setInt(1, i);
                insert.setString(2, "v" + i);
                insert.executeUpdate();
                select.setInt(1, i);
                try (ResultSet r = select.executeQuery()) {
                    r.next();
                    got.add(r.getString(1) + (select.unwrap(PGStatement.class).isUseServerPrepare() ? "!" : ""));
                }
            }
        }
        say("prepared, with ! by name", got);
        // More statements than the driver keeps in this connection, so that it closes the oldest.
        try (Connection small = connect("prepareThreshold", "1", "preparedStatementCacheQueries", "5", "binaryTransfer", "false")) {
            long sum = 0;
            for (int i = 0; i < 60; i++) {
                sum += Long.parseLong(ask(small, "SELECT " + i % 12 + " + ?", i));
            }
            say("more than are kept", sum);
        }
        try (Connection simple = connect("preferQueryMode", "simple")) {
            say("simple mode", ask(simple, "SELECT ? || 'é'", "it's"), ask(simple, "SELECT ?::int + 1", 41));
        }
        try (PreparedStatement p = c.prepareStatement(q("SELECT id, v FROM s.prepared WHERE id = ?"))) {
            say("described", p.getMetaData().getColumnName(2), p.getMetaData().getColumnTypeName(1),
                p.getParameterMetaData().getParameterTypeName(1));
        }
    }

    static void changedPlan(Connection c) throws Exception {
        run(c, "CREATE TABLE s.plan (a int)");
        run(c, "INSERT INTO s.plan VALUES (1)");
        try (Connection other = connect(); PreparedStatement p = c.prepareStatement(q("SELECT * FROM s.plan WHERE a = ?"))) {
            p.setInt(1, 1);
            for (int i = 0; i < 8; i++) {
                p.executeQuery().close();
            }
            run(other, "ALTER TABLE s.plan ADD b int DEFAULT 2");
            // The driver prepares again by itself outside of a transaction; inside it can't.
            c.setAutoCommit(false);
            failing("in a transaction", p::executeQuery);
            c.rollback();
            c.setAutoCommit(true);
            try (ResultSet r = p.executeQuery()) {
                say("outside", r.next(), r.getMetaData().getColumnCount());
            }
        }
    }

    static void batches(Connection c) throws Exception {
        run(c, "CREATE TABLE s.batched (id int PRIMARY KEY, v text)");
        try (PreparedStatement p = c.prepareStatement(q("INSERT INTO s.batched VALUES (?, ?)"))) {
            for (int i = 0; i < 1000; i++) {
                p.setInt(1, i);
                p.setString(2, "v" + i);
                p.addBatch();
            }
            say("batch", Arrays.stream(p.executeBatch()).sum());
            for (int id : new int[] {2000, 1, 2001}) {
                p.setInt(1, id);
                p.setString(2, "again");
                p.addBatch();
            }
            try {
                p.executeBatch();
                throw new AssertionError("the batch did not fail");
            } catch (BatchUpdateException e) {
                tell("error in a batch", (SQLException) e.getCause());
                say("counts", Arrays.toString(e.getUpdateCounts()));
            }
        }
        try (Statement s = c.createStatement()) {
            s.addBatch(q("UPDATE s.batched SET v = 'x' WHERE id < 10"));
            s.addBatch(q("DELETE FROM s.batched WHERE id < 5"));
            say("statements", Arrays.toString(s.executeBatch()));
        }
        try (PreparedStatement p = c.prepareStatement(q("INSERT INTO s.batched VALUES (?, 'k') RETURNING id"))) {
            p.setInt(1, 3000);
            try (ResultSet r = p.executeQuery()) {
                say("returning", r.next(), r.getInt(1));
            }
        }
        try (PreparedStatement p = c.prepareStatement(q("INSERT INTO s.batched VALUES (?, 'g')"), Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 10; i++) {
                p.setInt(1, 4000 + i);
                p.addBatch();
            }
            p.executeBatch();
            int sum = 0;
            try (ResultSet keys = p.getGeneratedKeys()) {
                while (keys.next()) {
                    sum += keys.getInt(1);
                }
            }
            say("generated keys", sum);
        }
        try (Connection rewriting = connect("reWriteBatchedInserts", "true");
            PreparedStatement p = rewriting.prepareStatement(q("INSERT INTO s.batched VALUES (?, 'w')"))) {
            for (int i = 0; i < 300; i++) {
                p.setInt(1, 5000 + i);
                p.addBatch();
            }
            p.executeBatch();
        }
        say("batched", ask(c, "SELECT count(*) || ' ' || sum(id) FROM s.batched"));
    }

    static void portals(Connection c) throws Exception {
        c.setAutoCommit(false);
        try (PreparedStatement p = c.prepareStatement("SELECT g, g * 2 FROM generate_series(1, ?) g");
            PreparedStatement meanwhile = c.prepareStatement("SELECT ?::int")) {
            p.setFetchSize(100);
            for (int run = 0; run < 7; run++) {
                p.setInt(1, 1050);
                long sum = 0;
                int rows = 0;
                try (ResultSet r = p.executeQuery()) {
                    while (r.next()) {
                        sum += r.getLong(2);
                        rows++;
                        if (rows % 500 == 0) {
                            // Another statement while the portal stays open.
                            meanwhile.setInt(1, rows);
                            try (ResultSet other = meanwhile.executeQuery()) {
                                other.next();
                                sum += other.getInt(1);
                            }
                        }
                    }
                }
                say("portal", rows, sum);
            }
            p.setInt(1, 1000);
            try (ResultSet r = p.executeQuery()) {
                r.next();
                say("left early", r.getInt(1));
            }
            p.setMaxRows(7);
            int rows = 0;
            try (ResultSet r = p.executeQuery()) {
                while (r.next()) {
                    rows++;
                }
            }
            say("row limit", rows);
        }
        c.commit();
        try (Statement s = c.createStatement()) {
            s.setFetchSize(2);
            ResultSet r = s.executeQuery("SELECT 1 / (6 - g) FROM generate_series(1, 10) g");
            int rows = 0;
            try {
                while (r.next()) {
                    rows++;
                }
                throw new AssertionError("the portal did not fail");
            } catch (SQLException e) {
                say("rows before the error", rows);
                tell("error in a portal", e);
            }
        }
        c.rollback();
        c.setAutoCommit(true);
    }

    static void copies(Connection c) throws Exception {
        run(c, "CREATE TABLE s.copied (id int, v text)");
        CopyManager copy = c.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < MANY; i++) {
            lines.append(i).append("\trow ").append(i).append(" ü\n");
        }
        say("copy in", copy.copyIn(q("COPY s.copied FROM STDIN"), new StringReader(lines.toString())));
        say("csv in", copy.copyIn(q("COPY s.copied FROM STDIN (FORMAT csv)"),
            new ByteArrayInputStream("-1,one\n-2,\n".getBytes(StandardCharsets.UTF_8))));
        StringWriter text = new StringWriter();
        say("copy out", copy.copyOut(q("COPY s.copied TO STDOUT"), text), digest(text.toString()));
        ByteArrayOutputStream binary = new ByteArrayOutputStream();
        say("binary out", copy.copyOut(q("COPY s.copied TO STDOUT (FORMAT binary)"), binary), digest(binary.toByteArray()));
        failing("bad data", () -> copy.copyIn(q("COPY s.copied FROM STDIN"), new StringReader("1\tfine\nnot a number\twrong\n")));
        var given = copy.copyIn(q("COPY s.copied FROM STDIN"));
        given.writeToCopy("1\tfine\n".getBytes(StandardCharsets.UTF_8), 0, 7);
        given.cancelCopy();
        failing("error during copy out", () -> copy.copyOut("COPY (SELECT 1 / (3 - g) FROM generate_series(1, 5) g) TO STDOUT", new StringWriter()));
        say("copied", ask(c, "SELECT count(*) || ' ' || sum(id) FROM s.copied"));
    }

    static void cancels(Connection c) throws Exception {
        try (Connection watcher = connect(); Statement s = c.createStatement()) {
            ExecutorService other = Executors.newSingleThreadExecutor();
            Future<?> cancelled = other.submit(() -> {
                String asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND position(? IN query) > 0";
                long end = System.currentTimeMillis() + DEADLINE;
                while (!ask(watcher, asleep, schema + " cancelled").equals("1")) {
                    if (System.currentTimeMillis() > end) {
                        throw new AssertionError("the query to be cancelled did not start");
                    }
                }
                s.cancel();
                return null;
            });
            failing("cancelled", () -> s.execute("SELECT pg_sleep(60) /* " + schema + " cancelled */"));
            cancelled.get();
            other.shutdown();
            say("after it", ask(c, "SELECT ?::int", 1));
        }
        try (Statement s = c.createStatement()) {
            s.setQueryTimeout(1);
            failing("query timeout", () -> s.execute("SELECT pg_sleep(60)"));
        }
        c.setAutoCommit(false);
        run(c, "SET LOCAL statement_timeout = 50");
        failing("statement_timeout", () -> run(c, "SELECT pg_sleep(60)"));
        c.rollback();
        c.setAutoCommit(true);
        say("after statement_timeout", ask(c, "SHOW statement_timeout"));
    }

    static void notices(Connection c) throws Exception {
        try (Statement s = c.createStatement()) {
            s.execute("DO $$ BEGIN RAISE NOTICE 'hello %', 'ü'; RAISE WARNING 'mind' USING HINT = 'the gap'; END $$");
            for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) {
                say("notice", w.getSQLState(), w.getMessage());
            }
        }
    }

    static void big(Connection c) throws Exception {
        say("big text", digest(ask(c, "SELECT ?::text || 'z'", "aé".repeat(BIG / 3))));
        byte[] data = new byte[BIG];
        for (int i = 0; i < BIG; i++) {
            data[i] = (byte) i;
        }
        try (PreparedStatement p = c.prepareStatement("SELECT ?::bytea")) {
            for (int i = 0; i < 7; i++) {
                p.setBytes(1, data);
                try (ResultSet r = p.executeQuery()) {
                    r.next();
                    say("big bytea", digest(r.getBytes(1)));
                }
            }
        }
        StringBuilder all = new StringBuilder();
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT g, md5(g::text) FROM generate_series(1, " + MANY + ") g")) {
            while (r.next()) {
                all.append(r.getString(2));
            }
        }
        say("many rows", digest(all.toString()));
    }

    static void sessions(Connection c) throws Exception {
        run(c, "SET work_mem = '7MB'");
        say("set", ask(c, "SHOW work_mem"));
        run(c, "RESET work_mem");
        say("lock", ask(c, "SELECT pg_try_advisory_lock(hashtext(?))", schema));
        say("unlock", ask(c, "SELECT pg_advisory_unlock(hashtext(?))", schema));
        if (!pooled) {
            run(c, "CREATE TEMP TABLE longer (id int)");
            run(c, "INSERT INTO longer VALUES (1), (2)");
            say("temporary table", ask(c, "SELECT count(*) FROM longer"));
            run(c, "DROP TABLE longer");
        }
    }

    static void listens(Connection c) throws Exception {
        run(c, "LISTEN " + schema);
        try (Connection other = connect()) {
            ask(other, "SELECT pg_notify(?, 'from elsewhere ü')", schema);
        }
        for (PGNotification n : c.unwrap(PGConnection.class).getNotifications((int) DEADLINE)) {
            say("heard", n.getName(), n.getParameter());
        }
        run(c, "UNLISTEN *");
    }

    static void sideBySide() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(6);
        List<Future<String>> answers = new ArrayList<>();
        for (int i = 0; i < 24; i++) {
            int number = i;
            answers.add(threads.submit(() -> {
                try (Connection own = connect()) {
                    return ask(own, "SELECT ?::int * 2", number);
                }
            }));
        }
        List<String> got = new ArrayList<>();
        for (Future<String> answer : answers) {
            got.add(answer.get());
        }
        threads.shutdown();
        say("side by side", got);
    }

    static void section(String name, Connection c, Section section) throws Exception {
        System.out.println("-- " + name);
        section.run(c);
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 2) {
            System.err.println("usage: Single.java URL SCHEMA");
            System.exit(2);
        }
        System.setOut(new java.io.PrintStream(System.out, true, StandardCharsets.UTF_8));
        understand(arguments[0]);
        schema = arguments[1];
        String features = System.getenv("FEATURES");
        pooled = features != null && Arrays.asList(features.split(",")).contains("transaction-pooling");
        try (Connection c = connect()) {
            run(c, "DROP SCHEMA IF EXISTS " + schema + " CASCADE");
            run(c, "CREATE SCHEMA " + schema);
            section("types", c, Single::types);
            section("errors", c, Single::errors);
            section("transactions", c, Single::transactions);
            section("prepared", c, Single::prepared);
            section("batches", c, Single::batches);
            section("portals", c, Single::portals);
            section("copies", c, Single::copies);
            section("cancels", c, Single::cancels);
            section("notices", c, Single::notices);
            section("big", c, Single::big);
            section("sessions", c, Single::sessions);
            if (!pooled) {
                section("changed plan", c, Single::changedPlan);
                section("listens", c, Single::listens);
            }
            sideBySide();
            run(c, "DROP SCHEMA " + schema + " CASCADE");
        }
        say("done");
        // Threads that still wait would keep the program alive.
        System.exit(0);
    }
}
