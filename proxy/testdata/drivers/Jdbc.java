// pgjdbc, run from source.
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public class Jdbc {
    static void ok(String name) { System.out.println("ok " + name); }

    static void same(Object got, Object want) {
        if (!want.equals(got)) throw new AssertionError("got " + got + ", want " + want);
    }

    interface Action { void run() throws Exception; }

    static void fails(String state, Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException e) {
            same(e.getSQLState(), state);
            return;
        }
        throw new AssertionError("no error " + state);
    }

    static long one(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getLong(1);
        }
    }

    static void run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) { s.execute(sql); }
    }

    static Connection connect() throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("password", System.getenv("PGPASSWORD"));
        String ca = System.getenv("HUBPG_CA");
        p.setProperty("sslmode", ca.isEmpty() ? "disable" : "verify-full");
        if (!ca.isEmpty()) p.setProperty("sslrootcert", ca);
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static PGNotification heard(Connection c) throws SQLException {
        PGNotification[] list = c.unwrap(PGConnection.class).getNotifications(10_000);
        if (list == null || list.length != 1) throw new AssertionError("notifications: " + Arrays.toString(list));
        return list[0];
    }

    public static void main(String[] args) throws Exception {
        Connection c = connect();
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("select current_user")) {
            r.next();
            same(r.getString(1), System.getenv("PGUSER"));
        }
        ok("connect");

        OffsetDateTime at = OffsetDateTime.parse("2026-01-02T03:04:05.678Z");
        UUID id = UUID.fromString("00000000-0000-0000-0000-000000000001");
        try (PreparedStatement s = c.prepareStatement("select ?::int4, ?::int8, ?::numeric, ?::bool, ?::timestamptz, ?::bytea, ?::text[], ?::uuid, null::text, ?::jsonb")) {
            for (int i = 0; i < 8; i++) { // beyond the threshold results are binary
                s.setInt(1, 7);
                s.setLong(2, 9007199254740993L);
                s.setBigDecimal(3, new BigDecimal("1.50"));
                s.setBoolean(4, true);
                s.setObject(5, at);
                s.setBytes(6, new byte[] {0, -1});
                s.setArray(7, c.createArrayOf("text", new Object[] {"a", "b,\"c\"", null}));
                s.setObject(8, id);
                s.setString(9, "{\"a\": 1}");
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    same(r.getInt(1), 7);
                    same(r.getLong(2), 9007199254740993L);
                    same(r.getBigDecimal(3), new BigDecimal("1.50"));
                    same(r.getBoolean(4), true);
                    same(r.getObject(5, OffsetDateTime.class).toInstant(), at.toInstant());
                    same(Arrays.toString(r.getBytes(6)), "[0, -1]");
                    same(Arrays.toString((Object[]) r.getArray(7).getArray()), "[a, b,\"c\", null]");
                    same(r.getObject(8), id);
                    same(r.getString(9) == null, true);
                    same(r.getString(10), "{\"a\": 1}");
                }
            }
        }
        ok("types");

        try (PreparedStatement s = c.prepareStatement("select ?::int * 2")) {
            for (int i = 0; i < 10; i++) {
                s.setInt(1, i);
                try (ResultSet r = s.executeQuery()) {
                    r.next();
                    same(r.getInt(1), 2 * i);
                }
            }
        }
        ok("prepared");

        run(c, "create temp table t (id int primary key, name text)");
        try (PreparedStatement s = c.prepareStatement("insert into t values (?, ?)")) {
            for (int i = 0; i < 2000; i++) {
                s.setInt(1, i);
                s.setString(2, "name " + i);
                s.addBatch();
            }
            same(s.executeBatch().length, 2000);
            s.setInt(1, 5000);
            s.setString(2, "gone with the next");
            s.addBatch();
            s.setInt(1, 1);
            s.setString(2, "twice");
            s.addBatch();
            fails("23505", s::executeBatch);
        }
        same(one(c, "select count(*) from t"), 2000L);
        ok("batch");

        run(c, "truncate t");
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < 20000; i++) text.append(i).append("\tname ").append(i).append('\n');
        var copy = c.unwrap(PGConnection.class).getCopyAPI();
        same(copy.copyIn("copy t from stdin", new StringReader(text.toString())), 20000L);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        copy.copyOut("copy t to stdout", out);
        same(out.toString(StandardCharsets.UTF_8), text.toString());
        fails("22P02", () -> copy.copyIn("copy t from stdin", new StringReader("not a number\tx\n")));
        var given = copy.copyIn("copy t from stdin");
        given.writeToCopy("30000\tnever\n".getBytes(StandardCharsets.UTF_8), 0, 12);
        given.cancelCopy();
        same(one(c, "select count(*) from t"), 20000L);
        ok("copy");

        String big = "x".repeat(8 << 20);
        try (PreparedStatement s = c.prepareStatement("select ?::text")) {
            s.setString(1, big);
            try (ResultSet r = s.executeQuery()) {
                r.next();
                same(r.getString(1).equals(big), true);
            }
        }
        ok("large");

        fails("22012", () -> one(c, "select 1/0"));
        same(one(c, "select 1"), 1L);
        ok("error");

        c.setAutoCommit(false);
        run(c, "delete from t");
        Savepoint point = c.setSavepoint();
        fails("42P01", () -> run(c, "select * from nowhere"));
        c.rollback(point);
        c.rollback();
        try (Statement s = c.createStatement()) { // rows come through a portal, a few at a time
            s.setFetchSize(100);
            long sum = 0;
            try (ResultSet r = s.executeQuery("select id from t")) {
                while (r.next()) sum += r.getInt(1);
            }
            same(sum, 199990000L);
        }
        c.commit();
        c.setAutoCommit(true);
        ok("transaction");

        try (Statement s = c.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(200);
                    s.cancel();
                } catch (Exception e) {
                    e.printStackTrace();
                }
            });
            canceller.start();
            fails("57014", () -> s.execute("select pg_sleep(30)"));
            canceller.join();
        }
        same(one(c, "select 2"), 2L);
        ok("cancel");

        Connection other = connect();
        run(c, "listen native");
        run(other, "notify native, 'hello'");
        PGNotification n = heard(c);
        same(n.getName() + " " + n.getParameter(), "native hello");
        ok("listen native");

        run(c, "listen hubspot_deals");
        long seq = one(other, "select ring()");
        n = heard(c);
        same(n.getName(), "hubspot_deals");
        same(n.getParameter().contains("\"seq\":" + seq + ","), true);
        ok("listen hubspot");

        DatabaseMetaData m = c.getMetaData();
        Set<String> found = new HashSet<>();
        try (ResultSet r = m.getColumns(null, "hubspot", "%", "%")) {
            while (r.next()) found.add(r.getString("TABLE_NAME") + "." + r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME"));
        }
        same(found.contains("deals.amount numeric"), true);
        try (ResultSet r = m.getPrimaryKeys(null, "hubspot", "deals")) {
            same(r.next(), true);
            same(r.getString("COLUMN_NAME"), "id");
        }
        try (ResultSet r = m.getImportedKeys(null, "hubspot", "deals_contacts")) {
            same(r.next(), true);
        }
        ok("introspection");
        other.close();
        c.close();
    }
}
