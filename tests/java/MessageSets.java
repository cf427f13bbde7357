import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.MutableRecordBatch;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;

/**
 * Message sets of formats 0 and 1, by the classes of Kafka 2.8, the last that wrote them: "write FOLDER" makes one file for
 * each format, codec and kind of timestamp; "read FILES..." prints what those classes find in files.
 */
public class MessageSets {
    private static final long BASE = 100;
    private static final long APPENDED = 1_500_000_123_456L;

    public static void main(String[] args) throws Exception {
        List<String> files = Arrays.asList(args).subList(1, args.length);
        if (args[0].equals("write")) {
            write(Path.of(files.get(0)));
            return;
        }
        for (String file : files) {
            read(Path.of(file));
        }
    }

    private static void write(Path folder) throws Exception {
        for (byte magic : new byte[] {RecordBatch.MAGIC_VALUE_V0, RecordBatch.MAGIC_VALUE_V1}) {
            for (CompressionType codec : CompressionType.values()) {
                if (codec == CompressionType.ZSTD) {
                    continue;
                }
                List<TimestampType> types = magic == RecordBatch.MAGIC_VALUE_V0
                    ? List.of(TimestampType.NO_TIMESTAMP_TYPE)
                    : List.of(TimestampType.CREATE_TIME, TimestampType.LOG_APPEND_TIME);
                for (TimestampType type : types) {
                    String append = type == TimestampType.LOG_APPEND_TIME ? "-append" : "";
                    Files.write(folder.resolve("set-v" + magic + "-" + codec.name + append), set(magic, codec, type));
                }
            }
        }
    }

    /** Two sets of six messages each, with gaps between offsets as compaction leaves them, and every kind of null. */
    private static byte[] set(byte magic, CompressionType codec, TimestampType type) {
        ByteBuffer all = ByteBuffer.allocate(1 << 16);
        long offset = BASE;
        for (int half = 0; half < 2; half++) {
            MemoryRecordsBuilder builder =
                MemoryRecords.builder(ByteBuffer.allocate(1 << 15), magic, codec, type, offset, APPENDED + half);
            for (int n = 6 * half; n < 6 * half + 6; n++) {
                long timestamp = magic == RecordBatch.MAGIC_VALUE_V0 ? RecordBatch.NO_TIMESTAMP : 1_500_000_000_000L - 1000L * n;
                byte[] key = n % 3 == 0 ? null : bytes("key " + n);
                byte[] value = n % 4 == 1 ? null : n == 7 ? new byte[0] : bytes("the same again and again, number " + n);
                builder.appendWithOffset(offset, timestamp, key, value);
                offset += 1 + n % 2 * n;
            }
            all.put(builder.build().buffer());
            // The cleaner took whole batches, too.
            offset += 1000;
        }
        return Arrays.copyOf(all.array(), all.position());
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static void read(Path file) throws Exception {
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(file))).batches()) {
            batch.ensureValid();
            for (Record record : batch) {
                record.ensureValid();
                List<String> words = new ArrayList<>();
                words.add(file.getFileName().toString());
                words.add(Long.toString(record.offset()));
                words.add(Long.toString(record.timestamp()));
                words.add(batch.timestampType() == TimestampType.LOG_APPEND_TIME ? "append" : "create");
                words.add(text(record.hasKey(), record.key()));
                words.add(text(record.hasValue(), record.value()));
                System.out.println(String.join(";", words));
            }
        }
    }

    private static String text(boolean is, ByteBuffer bytes) {
        return is ? "'" + StandardCharsets.UTF_8.decode(bytes) + "'" : "null";
    }
}
