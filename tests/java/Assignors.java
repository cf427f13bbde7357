import java.io.BufferedReader;
import java.io.PrintStream;
import java.io.FileOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;

/**
 * What Java's assignors make of groups, file to file. In, names and bytes in hex, "-" where there is none:
 *
 *   group ASSIGNOR GENERATION
 *   topic NAME rRACK,rRACK;rRACK;...     racks of each partition's replicas, "-" for a partition without any
 *   member ID INSTANCE SUBSCRIPTION      in the order in which the coordinator would show them
 *   end
 *
 * Out, for each group: one line for each member, with its assignment, its subscription written again, and the user data
 * that it would send next; then "end". Or "threw" and what.
 */
public class Assignors {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] args) throws Exception {
        try (BufferedReader in = Files.newBufferedReader(Path.of(args[0]));
             PrintStream out = new PrintStream(new FileOutputStream(args[1]), false, StandardCharsets.UTF_8)) {
            String line;
            while ((line = in.readLine()) != null) {
                String[] group = line.split(" ");
                group(in, out, group[1], Integer.parseInt(group[2]));
            }
        }
    }

    @SuppressWarnings("removal") // of the constructor, for users
    private static void group(BufferedReader in, PrintStream out, String name, int generation) throws Exception {
        List<PartitionInfo> partitions = new ArrayList<>();
        Map<String, Node> nodes = new HashMap<>();
        // As the consumer's coordinator does it: a hash map, filled in the order of the answer.
        Map<String, Subscription> members = new HashMap<>();
        Map<String, String[]> lines = new LinkedHashMap<>();
        for (String line = in.readLine(); !line.equals("end"); line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("topic")) {
                String[] racks = words[2].split(";");
                for (int index = 0; index < racks.length; index++) {
                    partitions.add(partition(text(words[1]), index, racks[index], nodes));
                }
            } else {
                Subscription subscription = ConsumerProtocol.deserializeSubscription(ByteBuffer.wrap(HEX.parseHex(words[3])));
                if (!words[2].equals("-")) {
                    subscription.setGroupInstanceId(Optional.of(text(words[2])));
                }
                members.put(text(words[1]), subscription);
                lines.put(text(words[1]), words);
            }
        }
        Cluster cluster = new Cluster("cluster", nodes.values(), partitions, Collections.emptySet(), Collections.emptySet());
        StringBuilder said = new StringBuilder();
        try {
            Map<String, Assignment> assigned = assignor(name).assign(cluster, new GroupSubscription(members)).groupAssignment();
            for (Map.Entry<String, String[]> member : lines.entrySet()) {
                Assignment assignment = assigned.get(member.getKey());
                Subscription subscription = members.get(member.getKey());
                if (subscription.userData() != null) {
                    subscription.userData().rewind();
                }
                short version = ByteBuffer.wrap(HEX.parseHex(member.getValue()[3])).getShort();
                ConsumerPartitionAssignor next = assignor(name);
                next.onAssignment(assignment, new ConsumerGroupMetadata("group", generation, member.getKey(), Optional.empty()));
                said.append(hex(ConsumerProtocol.serializeAssignment(assignment))).append(' ');
                said.append(hex(ConsumerProtocol.serializeSubscription(subscription, version))).append(' ');
                said.append(hex(next.subscriptionUserData(Collections.emptySet()))).append('\n');
            }
            out.print(said);
            out.print("end\n");
        } catch (RuntimeException e) {
            out.print("threw " + e.toString().replace('\n', ' ') + "\n");
        }
    }

    private static PartitionInfo partition(String topic, int index, String racks, Map<String, Node> nodes) {
        List<Node> replicas = new ArrayList<>();
        if (!racks.equals("-")) {
            for (String rack : racks.split(",")) {
                replicas.add(nodes.computeIfAbsent(rack, r -> new Node(nodes.size(), "host", 9092, text(r.substring(1)))));
            }
        }
        Node[] all = replicas.toArray(new Node[0]);
        return new PartitionInfo(topic, index, all.length == 0 ? null : all[0], all, all);
    }

    private static ConsumerPartitionAssignor assignor(String name) {
        switch (name) {
            case "range":
                return new RangeAssignor();
            case "roundrobin":
                return new RoundRobinAssignor();
            case "sticky":
                return new StickyAssignor();
            default:
                return new CooperativeStickyAssignor();
        }
    }

    private static String text(String hex) {
        return new String(HEX.parseHex(hex), StandardCharsets.UTF_8);
    }

    private static String hex(ByteBuffer bytes) {
        if (bytes == null) {
            return "-";
        }
        byte[] copy = new byte[bytes.remaining()];
        bytes.duplicate().get(copy);
        return HEX.formatHex(copy);
    }
}
