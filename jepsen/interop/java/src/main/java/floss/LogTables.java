package floss;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import org.apache.fluss.client.Connection;
import org.apache.fluss.client.ConnectionFactory;
import org.apache.fluss.client.admin.Admin;
import org.apache.fluss.client.admin.OffsetSpec;
import org.apache.fluss.client.table.Table;
import org.apache.fluss.client.table.scanner.ScanRecord;
import org.apache.fluss.client.table.scanner.batch.BatchScanner;
import org.apache.fluss.client.table.scanner.log.LogScanner;
import org.apache.fluss.client.table.writer.AppendWriter;
import org.apache.fluss.config.ConfigOptions;
import org.apache.fluss.config.Configuration;
import org.apache.fluss.metadata.DatabaseDescriptor;
import org.apache.fluss.metadata.LogFormat;
import org.apache.fluss.metadata.Schema;
import org.apache.fluss.metadata.TableBucket;
import org.apache.fluss.metadata.TableDescriptor;
import org.apache.fluss.metadata.TablePath;
import org.apache.fluss.row.BinaryString;
import org.apache.fluss.row.GenericRow;
import org.apache.fluss.row.InternalRow;
import org.apache.fluss.types.DataTypes;
import org.apache.fluss.utils.CloseableIterator;

/** The released Java client against Floss: create, append ARROW and INDEXED, scan, project, limit scan, offsets. */
public final class LogTables {
    private static final int ROWS = 1000;
    private static final int BUCKETS = 3;
    private static int checks = 0;

    public static void main(String[] args) throws Exception {
        Configuration config = new Configuration();
        config.set(ConfigOptions.BOOTSTRAP_SERVERS, Arrays.asList(args[0].split(",")));
        try (Connection connection = ConnectionFactory.createConnection(config)) {
            Admin admin = connection.getAdmin();
            admin.createDatabase("interop", DatabaseDescriptor.EMPTY, true).get();
            check("database is listed", admin.listDatabases().get().contains("interop"));
            for (LogFormat format : new LogFormat[] {LogFormat.ARROW, LogFormat.INDEXED, LogFormat.COMPACTED}) {
                logTable(connection, admin, format);
            }
            admin.dropDatabase("interop", false, true).get();
            check("database is gone", !admin.databaseExists("interop").get());
            check("all nodes are listed", admin.getServerNodes().get().size() >= 2);
            check("health is answered", admin.getClusterHealth().get() != null);
        }
        System.out.println("java client: " + checks + " passed, 0 failed");
    }

    private static void logTable(Connection connection, Admin admin, LogFormat format) throws Exception {
        TablePath path = TablePath.of("interop", "log_" + format.name().toLowerCase());
        Schema schema = Schema.newBuilder()
                .column("id", DataTypes.INT())
                .column("name", DataTypes.STRING())
                .column("amount", DataTypes.BIGINT())
                .build();
        TableDescriptor descriptor =
                TableDescriptor.builder().schema(schema).distributedBy(BUCKETS).logFormat(format).build();
        admin.createTable(path, descriptor, false).get();
        check(format + " table exists", admin.tableExists(path).get());
        check(format + " bucket count", admin.getTableInfo(path).get().getNumBuckets() == BUCKETS);
        try (Table table = connection.getTable(path)) {
            AppendWriter writer = table.newAppend().createWriter();
            for (int id = 0; id < ROWS; id++) {
                writer.append(GenericRow.of(id, id % 7 == 0 ? null : BinaryString.fromString("name-" + id), id * 10L));
            }
            writer.flush();
            List<ScanRecord> all = scan(table, table.newScan().createLogScanner());
            check(format + " all rows", ids(all, 0).equals(range()));
            check(format + " values", all.stream().allMatch(LogTables::isWhole));
            if (format == LogFormat.ARROW) {
                List<ScanRecord> two = scan(table, table.newScan().project(new int[] {2, 0}).createLogScanner());
                check("projected ids", ids(two, 1).equals(range()));
                check("projected values", two.stream().allMatch(r -> r.getRow().getLong(0) == r.getRow().getInt(1) * 10L));
            }
            offsets(admin, path, format);
            limitScan(table, format);
        }
        admin.dropTable(path, false).get();
        check(format + " table is gone", !admin.tableExists(path).get());
    }

    private static boolean isWhole(ScanRecord record) {
        InternalRow row = record.getRow();
        int id = row.getInt(0);
        boolean name = id % 7 == 0 ? row.isNullAt(1) : row.getString(1).toString().equals("name-" + id);
        return name && row.getLong(2) == id * 10L;
    }

    private static List<ScanRecord> scan(Table table, LogScanner scanner) throws Exception {
        List<ScanRecord> records = new ArrayList<>();
        for (int bucket = 0; bucket < BUCKETS; bucket++) {
            scanner.subscribeFromBeginning(bucket);
        }
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (records.size() < ROWS && System.nanoTime() < deadline) {
            scanner.poll(Duration.ofMillis(500)).forEach(records::add);
        }
        scanner.close();
        return records;
    }

    private static void offsets(Admin admin, TablePath path, LogFormat format) throws Exception {
        List<Integer> buckets = Arrays.asList(0, 1, 2);
        Map<Integer, Long> latest = admin.listOffsets(path, buckets, new OffsetSpec.LatestSpec()).all().get();
        Map<Integer, Long> earliest = admin.listOffsets(path, buckets, new OffsetSpec.EarliestSpec()).all().get();
        Map<Integer, Long> since1970 = admin.listOffsets(path, buckets, new OffsetSpec.TimestampSpec(1)).all().get();
        check(format + " latest offsets", latest.values().stream().mapToLong(Long::longValue).sum() == ROWS);
        check(format + " earliest offsets", earliest.values().stream().allMatch(offset -> offset == 0));
        check(format + " offsets by time", since1970.values().stream().allMatch(offset -> offset == 0));
    }

    private static void limitScan(Table table, LogFormat format) throws Exception {
        int rows = 0;
        for (int bucket = 0; bucket < BUCKETS; bucket++) {
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
        }
        check(format + " limit scan", rows > 0 && rows <= 10 * BUCKETS);
    }

    private static List<Integer> ids(List<ScanRecord> records, int column) {
        List<Integer> ids = new ArrayList<>();
        records.forEach(record -> ids.add(record.getRow().getInt(column)));
        Collections.sort(ids);
        return ids;
    }

    private static List<Integer> range() {
        List<Integer> range = new ArrayList<>();
        for (int id = 0; id < ROWS; id++) {
            range.add(id);
        }
        return range;
    }

    private static void check(String what, boolean holds) {
        if (!holds) {
            System.out.println("java client: FAILED " + what);
            System.exit(1);
        }
        checks++;
    }
}
