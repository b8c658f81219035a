package floss;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import org.apache.fluss.client.Connection;
import org.apache.fluss.client.ConnectionFactory;
import org.apache.fluss.client.admin.Admin;
import org.apache.fluss.client.lookup.LookupResult;
import org.apache.fluss.client.lookup.Lookuper;
import org.apache.fluss.client.table.Table;
import org.apache.fluss.client.table.scanner.ScanRecord;
import org.apache.fluss.client.table.scanner.batch.BatchScanner;
import org.apache.fluss.client.table.scanner.log.LogScanner;
import org.apache.fluss.client.table.writer.UpsertWriter;
import org.apache.fluss.config.ConfigOptions;
import org.apache.fluss.config.Configuration;
import org.apache.fluss.metadata.DatabaseDescriptor;
import org.apache.fluss.metadata.KvFormat;
import org.apache.fluss.metadata.Schema;
import org.apache.fluss.metadata.TableBucket;
import org.apache.fluss.metadata.TableDescriptor;
import org.apache.fluss.metadata.TablePath;
import org.apache.fluss.row.BinaryString;
import org.apache.fluss.row.GenericRow;
import org.apache.fluss.row.InternalRow;
import org.apache.fluss.types.DataTypes;
import org.apache.fluss.utils.CloseableIterator;

/** The released Java client against Floss: upsert, partial update, delete, lookup, prefix lookup, and the changelog that they make. */
public final class PrimaryKeyTables {
    private static final int BUCKETS = 3;
    private static final int MANY = 1000;
    private static int checks = 0;

    public static void main(String[] args) throws Exception {
        Configuration config = new Configuration();
        config.set(ConfigOptions.BOOTSTRAP_SERVERS, Arrays.asList(args[0].split(",")));
        try (Connection connection = ConnectionFactory.createConnection(config)) {
            Admin admin = connection.getAdmin();
            admin.createDatabase("interop", DatabaseDescriptor.EMPTY, true).get();
            for (KvFormat format : new KvFormat[] {KvFormat.COMPACTED, KvFormat.INDEXED}) {
                TablePath path = TablePath.of("interop", "rows_" + format.name().toLowerCase());
                create(admin, path, format);
                try (Table table = connection.getTable(path)) {
                    changes(table, format);
                    reads(admin, path, table, format);
                    many(admin, path, table, format);
                }
                admin.dropTable(path, false).get();
            }
            admin.dropDatabase("interop", false, true).get();
        }
        System.out.println("java client, primary keys: " + checks + " passed, 0 failed");
    }

    private static void create(Admin admin, TablePath path, KvFormat format) throws Exception {
        Schema schema = Schema.newBuilder()
                .column("region", DataTypes.STRING())
                .column("id", DataTypes.INT())
                .column("amount", DataTypes.BIGINT())
                .column("name", DataTypes.STRING())
                .primaryKey("region", "id")
                .build();
        TableDescriptor descriptor = TableDescriptor.builder()
                .schema(schema)
                .distributedBy(BUCKETS, "region")
                .kvFormat(format)
                .build();
        admin.createTable(path, descriptor, false).get();
        check(format + " table has a key", admin.getTableInfo(path).get().hasPrimaryKey());
    }

    private static GenericRow row(String region, int id, Long amount, String name) {
        return GenericRow.of(
                BinaryString.fromString(region), id, amount, name == null ? null : BinaryString.fromString(name));
    }

    /** One write after the other, each acknowledged, then the changelog of each region in its order. */
    private static void changes(Table table, KvFormat format) throws Exception {
        UpsertWriter writer = table.newUpsert().createWriter();
        UpsertWriter amounts = table.newUpsert().partialUpdate("region", "id", "amount").createWriter();
        writer.upsert(row("a", 1, 10L, "x")).get();
        writer.upsert(row("a", 2, 20L, "y")).get();
        writer.upsert(row("b", 1, 30L, null)).get();
        writer.upsert(row("a", 1, 11L, "x2")).get();
        amounts.upsert(row("a", 2, 21L, null)).get();
        amounts.upsert(row("b", 2, 40L, null)).get();
        writer.delete(row("b", 1, null, null)).get();
        writer.delete(row("b", 77, null, null)).get();
        writer.upsert(row("b", 1, 50L, "again")).get();
        // Takes back what a partial writer may speak of; the rest of the row stays.
        amounts.delete(row("a", 2, null, null)).get();
        Map<String, List<String>> found = new TreeMap<>();
        for (ScanRecord record : changelog(table, 12)) {
            InternalRow row = record.getRow();
            found.computeIfAbsent(row.getString(0).toString(), region -> new ArrayList<>())
                    .add(record.getChangeType().shortString() + text(row));
        }
        Map<String, List<String>> expected = new TreeMap<>();
        expected.put("a", Arrays.asList(
                "+I 1 10 x", "+I 2 20 y", "-U 1 10 x", "+U 1 11 x2", "-U 2 20 y", "+U 2 21 y", "-U 2 21 y", "+U 2 null y"));
        expected.put("b", Arrays.asList("+I 1 30 null", "+I 2 40 null", "-D 1 30 null", "+I 1 50 again"));
        if (!found.equals(expected)) {
            System.out.println("expected " + expected + "\nfound    " + found);
        }
        check(format + " changelog", found.equals(expected));
    }

    private static String text(InternalRow row) {
        return " " + row.getInt(1)
                + " " + (row.isNullAt(2) ? "null" : String.valueOf(row.getLong(2)))
                + " " + (row.isNullAt(3) ? "null" : row.getString(3).toString());
    }

    private static void reads(Admin admin, TablePath path, Table table, KvFormat format) throws Exception {
        Lookuper byKey = table.newLookup().createLookuper();
        check(format + " lookup", text(byKey.lookup(key("a", 1)).get().getSingletonRow()).equals(" 1 11 x2"));
        check(format + " lookup of a partial row", text(byKey.lookup(key("a", 2)).get().getSingletonRow()).equals(" 2 null y"));
        check(format + " lookup of nothing", byKey.lookup(key("a", 3)).get().getSingletonRow() == null);
        Lookuper byPrefix = table.newLookup().lookupBy("region").createLookuper();
        check(format + " prefix lookup", texts(byPrefix.lookup(prefix("a")).get()).equals(Arrays.asList(" 1 11 x2", " 2 null y")));
        check(format + " prefix lookup of nothing", texts(byPrefix.lookup(prefix("c")).get()).isEmpty());
        check(format + " row count", admin.getTableStats(path).get().getRowCount() == 4);
        int rows = 0;
        for (int bucket = 0; bucket < BUCKETS; bucket++) {
            rows += limitScan(table, bucket);
        }
        check(format + " limit scan", rows == 4);
    }

    private static GenericRow key(String region, int id) {
        return GenericRow.of(BinaryString.fromString(region), id);
    }

    private static GenericRow prefix(String region) {
        return GenericRow.of(BinaryString.fromString(region));
    }

    private static List<String> texts(LookupResult result) {
        List<String> texts = new ArrayList<>();
        result.getRowList().forEach(row -> texts.add(text(row)));
        Collections.sort(texts);
        return texts;
    }

    /** Batches as the client makes them: inserts, updates of every second row, deletes of every fourth. */
    private static void many(Admin admin, TablePath path, Table table, KvFormat format) throws Exception {
        UpsertWriter writer = table.newUpsert().createWriter();
        for (int id = 0; id < MANY; id++) {
            writer.upsert(row("m" + id % 10, id, (long) id, "first"));
        }
        writer.flush();
        for (int id = 0; id < MANY; id += 2) {
            writer.upsert(row("m" + id % 10, id, (long) id, "second"));
        }
        writer.flush();
        for (int id = 0; id < MANY; id += 4) {
            writer.delete(row("m" + id % 10, id, null, null));
        }
        writer.flush();
        Lookuper byKey = table.newLookup().createLookuper();
        List<CompletableFuture<LookupResult>> found = new ArrayList<>();
        for (int id = 0; id < MANY; id++) {
            found.add(byKey.lookup(key("m" + id % 10, id)));
        }
        boolean right = true;
        for (int id = 0; id < MANY; id++) {
            InternalRow row = found.get(id).get().getSingletonRow();
            String name = id % 4 == 0 ? null : id % 2 == 0 ? "second" : "first";
            right &= name == null ? row == null : row != null && text(row).equals(" " + id + " " + id + " " + name);
        }
        check(format + " lookups of many", right);
        check(format + " rows of many", admin.getTableStats(path).get().getRowCount() == 4 + MANY * 3 / 4);
        Map<String, Integer> kinds = new TreeMap<>();
        for (ScanRecord record : changelog(table, 12 + MANY * 9 / 4)) {
            if (record.getRow().getString(0).toString().startsWith("m")) {
                kinds.merge(record.getChangeType().shortString(), 1, Integer::sum);
            }
        }
        Map<String, Integer> expected = new TreeMap<>();
        expected.put("+I", MANY);
        expected.put("-U", MANY / 2);
        expected.put("+U", MANY / 2);
        expected.put("-D", MANY / 4);
        check(format + " changelog of many", kinds.equals(expected));
    }

    private static List<ScanRecord> changelog(Table table, int count) throws Exception {
        List<ScanRecord> records = new ArrayList<>();
        try (LogScanner scanner = table.newScan().createLogScanner()) {
            for (int bucket = 0; bucket < BUCKETS; bucket++) {
                scanner.subscribeFromBeginning(bucket);
            }
            long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            int quiet = 0;
            // Past the expected number, too: one change too many is as wrong as one too few.
            while (System.nanoTime() < deadline && quiet < 2) {
                int before = records.size();
                scanner.poll(Duration.ofMillis(500)).forEach(records::add);
                quiet = records.size() == before && records.size() >= count ? quiet + 1 : 0;
            }
        }
        return records;
    }

    private static int limitScan(Table table, int bucket) throws Exception {
        int rows = 0;
        TableBucket id = new TableBucket(table.getTableInfo().getTableId(), bucket);
        try (BatchScanner scanner = table.newScan().limit(10).createBatchScanner(id)) {
            CloseableIterator<InternalRow> batch;
            while ((batch = scanner.pollBatch(Duration.ofSeconds(5))) != null) {
                while (batch.hasNext()) {
                    batch.next();
                    rows++;
                }
                batch.close();
            }
        }
        return rows;
    }

    private static void check(String what, boolean holds) {
        if (!holds) {
            System.out.println("java client: FAILED " + what);
            System.exit(1);
        }
        checks++;
    }
}
