"""What kafka-python sees of a cluster; scripts/foreign-clients compares it between clusters."""

import os
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions, NewTopic
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

BOOTSTRAP = os.environ["KAFKA_BOOTSTRAP"].split(",")
TOPIC = "kafka-python"


def say(what, answer):
    print(f"{what}: {answer}", flush=True)


def refused(what, act):
    try:
        say(what, act())
    except KafkaError as error:
        say(what, type(error).__name__)


def topics():
    admin = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    refused("create", lambda: bool(admin.create_topics([NewTopic(TOPIC, 3, 1), NewTopic(TOPIC + "-gone", 1, 1)])))
    time.sleep(1)  # a real broker hears of its leaderships later than the client of its topics
    refused("create again", lambda: admin.create_topics([NewTopic(TOPIC, 3, 1)]))
    refused("create with a wrong name", lambda: admin.create_topics([NewTopic("a b", 3, 1)]))
    refused("create with too many replicas", lambda: admin.create_topics([NewTopic("replicas", 1, 100)]))
    say("listed", sorted(name for name in admin.list_topics() if name.startswith(TOPIC)))
    refused("add partitions", lambda: bool(admin.create_partitions({TOPIC + "-gone": NewPartitions(3)})))
    for topic in sorted(admin.describe_topics([TOPIC, TOPIC + "-gone"]), key=lambda topic: topic["name"]):
        partitions = sorted((p["partition_index"], p["leader_id"], p["replica_nodes"]) for p in topic["partitions"])
        say("described", (topic["name"], topic["error_code"], topic["is_internal"], partitions))
    refused("delete", lambda: bool(admin.delete_topics([TOPIC + "-gone"])))
    refused("delete again", lambda: admin.delete_topics([TOPIC + "-gone"]))
    admin.close()


def produce():
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        for idempotent in [False, True]:
            producer = KafkaProducer(
                bootstrap_servers=BOOTSTRAP, compression_type=codec, enable_idempotence=idempotent, acks="all", linger_ms=20
            )
            headers = [("first", b"1"), ("second", b""), ("first", b"again")]
            sent = [
                producer.send(TOPIC, f"{codec} {n}".encode() * 20, b"key-%d" % n, headers, 0, 1_700_000_000_000 + n)
                for n in range(20)
            ]
            sent.append(producer.send(TOPIC, None, b"tombstone", partition=1))
            sent.append(producer.send(TOPIC, b"", partition=1))
            producer.flush()
            placed = [future.get(10) for future in sent]
            say(f"produced {codec}, idempotent {idempotent}", [(m.partition, m.offset) for m in placed])
            producer.close()
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, max_request_size=3_000_000, acks=1)
    refused("produce too much", lambda: producer.send(TOPIC, b"x" * 2_000_000, partition=0).get(10))
    say("produced by key", sorted({producer.send(TOPIC, b"v", b"k%d" % n).get(10).partition for n in range(20)}))
    producer.close()


def consume():
    tps = [TopicPartition(TOPIC, n) for n in range(3)]
    consumer = KafkaConsumer(
        bootstrap_servers=BOOTSTRAP, group_id=TOPIC, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    consumer.assign(tps)
    beginning, end = consumer.beginning_offsets(tps), consumer.end_offsets(tps)
    say("beginning", [beginning[tp] for tp in tps])
    say("end", [end[tp] for tp in tps])
    found = consumer.offsets_for_times({tps[0]: 1_700_000_000_005, tps[1]: 4_000_000_000_000})
    say("by time", [(found[tp].offset, found[tp].timestamp) if found[tp] else None for tp in tps[:2]])
    say("committed at first", [consumer.committed(tp) for tp in tps])
    records = {tp: [] for tp in tps}
    while sum(map(len, records.values())) < sum(end.values()):
        for tp, some in consumer.poll(1000).items():
            records[tp] += some
    for tp in tps:
        for r in records[tp]:
            when = r.timestamp if tp.partition == 0 and r.offset < 200 else "now"
            say(tp.partition, (r.offset, r.key, r.value and r.value[:30], r.headers, when, r.timestamp_type))
    say("positions", [consumer.position(tp) for tp in tps])
    commits = {tps[0]: OffsetAndMetadata(7, "note", -1), tps[1]: OffsetAndMetadata(end[tps[1]], "", -1)}
    refused("commit", lambda: consumer.commit(commits))
    say("committed", [consumer.committed(tp) for tp in tps])
    consumer.seek(tps[0], 195)
    consumer.pause(*tps[1:])
    again = []
    while len(again) < 5:
        again += consumer.poll(1000).get(tps[0], [])
    say("after seek", [record.offset for record in again[:5]])
    consumer.close()
    resumed = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=TOPIC, enable_auto_commit=False)
    resumed.assign(tps[:1])
    say("resumes at", next(resumed).offset)
    resumed.close()


def poll_all(consumers, done):
    """Polls them in turn, each in its own thread's stead, until `done`, which takes what they own."""
    records, until = {consumer: [] for consumer in consumers}, time.monotonic() + 60
    while not done([sorted((tp.topic, tp.partition) for tp in c.assignment()) for c in consumers]):
        assert time.monotonic() < until, [c.assignment() for c in consumers]
        for consumer in consumers:
            for some in consumer.poll(100).values():
                records[consumer] += some
    return records


def groups():
    def member(strategy):
        consumer = KafkaConsumer(
            bootstrap_servers=BOOTSTRAP, group_id=f"{TOPIC}-{strategy.name}", auto_offset_reset="earliest",
            partition_assignment_strategy=[strategy], session_timeout_ms=10000, heartbeat_interval_ms=500,
            enable_auto_commit=False,
        )
        # Without metadata it would join with nothing to assign, and once more at once. If that one's answer comes later than
        # its poll waits, kafka-python 3.0.12 takes itself for joined and does nothing more, at real brokers too.
        while len(consumer.partitions_for_topic(TOPIC) or ()) < 3:
            time.sleep(0.1)
        consumer.subscribe([TOPIC])
        return consumer

    for strategy in [RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor]:
        first = member(strategy)
        poll_all([first], lambda owned: len(owned[0]) == 3)
        say(f"{strategy.name}: alone", sorted(tp.partition for tp in first.assignment()))
        second = member(strategy)
        poll_all([first, second], lambda owned: sorted(map(len, owned)) == [1, 2])
        say(f"{strategy.name}: two", sorted(tp.partition for c in (first, second) for tp in c.assignment()))
        tp = sorted(second.assignment())[0]
        second.commit({tp: OffsetAndMetadata(3, "by a member", -1)})
        say(f"{strategy.name}: committed", second.committed(tp))
        second.close()
        poll_all([first], lambda owned: len(owned[0]) == 3)
        say(f"{strategy.name}: alone again", sorted(tp.partition for tp in first.assignment()))
        first.close()


topics()
produce()
consume()
groups()
