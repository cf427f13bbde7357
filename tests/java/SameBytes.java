import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;

/** Reads messages, one a line ("name version hex"), with Kafka's own classes, and asks whether they write the same bytes. */
public class SameBytes {
    public static void main(String[] args) throws Exception {
        int same = 0;
        Map<String, String> problems = new TreeMap<>();
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] words = line.split(" ", -1);
            try {
                roundTrip(words[0], Short.parseShort(words[1]), HexFormat.of().parseHex(words[2]));
                same++;
            } catch (Throwable problem) {
                problems.put(words[0] + " v" + words[1], problem + " for " + words[2]);
            }
        }
        problems.forEach((message, problem) -> System.out.println(message + ": " + problem));
        System.out.println(same + " messages are the same bytes");
        System.exit(problems.isEmpty() ? 0 : 1);
    }

    private static void roundTrip(String name, short version, byte[] bytes) throws Exception {
        // What travels inside other messages has no "Data" behind its name.
        String data = name.endsWith("Request") || name.endsWith("Response") ? "Data" : "";
        Class<?> type = Class.forName("org.apache.kafka.common.message." + name + data);
        Message message = (Message) type.getDeclaredConstructor().newInstance();
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        message.read(new ByteBufferAccessor(buffer), version);
        if (buffer.hasRemaining()) {
            throw new Exception(buffer.remaining() + " bytes left");
        }
        ByteBuffer written = MessageUtil.toByteBufferAccessor(message, version).buffer();
        if (!written.equals(ByteBuffer.wrap(bytes))) {
            throw new Exception("other bytes");
        }
    }
}
