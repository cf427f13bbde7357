"""What confluent-kafka (librdkafka 2) sees of a cluster; scripts/foreign-clients compares it between clusters."""

import os
import time

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

BOOTSTRAP = os.environ["KAFKA_BOOTSTRAP"]
TOPIC = "confluent-kafka"
COORDINATORS = ["coordinator's uniform", "coordinator's range"]


def say(what, answer):
    print(f"{what}: {answer}", flush=True)


def settled(futures):
    """Each future's result or error, by name."""
    answers = {}
    for name, future in futures.items():
        try:
            answers[str(name)] = future.result(10) or "done"
        except KafkaException as error:
            answers[str(name)] = error.args[0].name()
    return answers


def topics():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    wanted = [NewTopic(TOPIC, 3, 1, config={"max.message.bytes": "2000000"}), NewTopic(TOPIC + "-gone", 1, 1)]
    say("create", settled(admin.create_topics(wanted)))
    time.sleep(1)  # a real broker hears of its leaderships later than the client of its topics
    say("create again", settled(admin.create_topics(wanted[:1])))
    say("create with a wrong name", settled(admin.create_topics([NewTopic("a b", 1, 1)])))
    say("create with too many replicas", settled(admin.create_topics([NewTopic("replicas", 1, 100)])))
    say("create with a wrong setting", settled(admin.create_topics([NewTopic("s", 1, 1, config={"retention": "1"})])))
    say("only validate", settled(admin.create_topics([NewTopic("validated", 1, 1)], validate_only=True)))
    say("add partitions", settled(admin.create_partitions([NewPartitions(TOPIC + "-gone", 3)])))
    say("add too few", settled(admin.create_partitions([NewPartitions(TOPIC, 2)])))
    metadata = admin.list_topics(timeout=10)
    for name, topic in sorted(metadata.topics.items()):
        if name.startswith(TOPIC):
            say("listed", (name, topic.error, [(p.id, p.leader, p.replicas, p.isrs) for p in topic.partitions.values()]))
    say("brokers", [broker.id for broker in metadata.brokers.values()])
    missing = admin.list_topics("confluent-missing", timeout=10).topics["confluent-missing"]
    say("missing", missing.error.name())
    described = admin.describe_cluster().result(10)
    say("cluster", (len(described.nodes), described.controller.id))
    say("delete", settled(admin.delete_topics([TOPIC + "-gone"])))
    say("delete again", settled(admin.delete_topics([TOPIC + "-gone"])))


def produce():
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        for idempotent in [False, True]:
            placed = []
            settings = {"bootstrap.servers": BOOTSTRAP, "compression.type": codec, "linger.ms": 20}
            producer = Producer({**settings, "enable.idempotence": idempotent, "acks": "all"})

            def delivered(error, message):
                placed.append(error.name() if error else (message.partition(), message.offset()))

            headers = [("first", b"1"), ("second", None), ("first", b"again")]
            for n in range(20):
                value = f"{codec} {n}".encode() * 20
                at = 1_700_000_000_000 + n
                producer.produce(TOPIC, value, b"key-%d" % n, 0, on_delivery=delivered, timestamp=at, headers=headers)
            producer.produce(TOPIC, None, b"tombstone", 1, on_delivery=delivered)
            producer.produce(TOPIC, b"", None, 1, on_delivery=delivered)
            left = producer.flush(10)
            say(f"produced {codec}, idempotent {idempotent}", (left, sorted(placed)))
    outcome = []
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "message.max.bytes": 4_000_000})
    for topic, value in [(TOPIC, b"x" * 1_500_000), (TOPIC, b"x" * 3_000_000)]:
        producer.produce(topic, value, partition=2, callback=lambda e, m: outcome.append(e.name() if e else m.offset()))
        producer.flush(10)
    say("large", outcome)


def consume():
    tps = [TopicPartition(TOPIC, n) for n in range(3)]
    settings = {"bootstrap.servers": BOOTSTRAP, "group.id": TOPIC, "enable.auto.commit": False}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest", "enable.partition.eof": True})
    say("watermarks", [consumer.get_watermark_offsets(tp, 10) for tp in tps])
    times = [TopicPartition(TOPIC, 0, 1_700_000_000_005), TopicPartition(TOPIC, 1, 4_000_000_000_000)]
    say("by time", [(tp.offset, tp.error) for tp in consumer.offsets_for_times(times, 10)])
    say("committed at first", [(tp.offset, tp.error) for tp in consumer.committed(tps, 10)])
    consumer.assign(tps)
    records, ends = {n: [] for n in range(3)}, set()
    while len(ends) < 3:
        message = consumer.poll(10)
        if message is None:
            raise SystemExit("nothing comes")
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ends.add(message.partition())
        else:
            records[message.partition()].append(message)
    for partition, messages in records.items():
        for m in messages:
            kind, when = m.timestamp()
            when = when if partition == 0 else "now"
            value = m.value() and m.value()[:30]
            say(partition, (m.offset(), m.key(), value, len(m.value() or b""), m.headers(), kind, when, m.leader_epoch()))
    say("positions", [tp.offset for tp in consumer.position(tps)])
    commits = [TopicPartition(TOPIC, 0, 7, metadata="note"), TopicPartition(TOPIC, 1, 20)]
    say("commit", [(tp.partition, tp.offset, tp.error) for tp in consumer.commit(offsets=commits, asynchronous=False)])
    say("committed", [(tp.offset, tp.metadata, tp.error) for tp in consumer.committed(tps, 10)])
    try:
        answer = consumer.commit(offsets=[TopicPartition(TOPIC, 9, 1)], asynchronous=False)
        say("commit to what is not there", [tp.error.name() for tp in answer])
    except KafkaException as error:
        say("commit to what is not there", error.args[0].name())
    consumer.seek(TopicPartition(TOPIC, 0, 195))
    again = []
    while len(again) < 5:
        message = consumer.poll(10)
        if message is not None and not message.error():
            again.append((message.partition(), message.offset()))
    say("after seek", again)
    consumer.close()
    resumed = Consumer(settings)
    resumed.assign([TopicPartition(TOPIC, 0)])
    say("resumes at", resumed.poll(10).offset())
    resumed.close()
    strict = Consumer({**settings, "auto.offset.reset": "error"})
    strict.assign([TopicPartition(TOPIC, 0, 5000)])
    say("out of range", strict.poll(10).error().name())
    strict.close()
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    for name, spec in [("earliest", OffsetSpec.earliest()), ("latest", OffsetSpec.latest())]:
        found = admin.list_offsets({tps[0]: spec}, isolation_level=IsolationLevel.READ_COMMITTED)
        say(f"listed {name}", [future.result(10).offset for future in found.values()])


def groups():
    def member(strategy):
        classic = {"partition.assignment.strategy": strategy, "session.timeout.ms": 10000, "heartbeat.interval.ms": 500}
        # KIP-848: the coordinator assigns, and says how often it wants to hear.
        by_coordinator = {"group.protocol": "consumer", "group.remote.assignor": strategy.removeprefix("coordinator's ")}
        consumer = Consumer({
            "bootstrap.servers": BOOTSTRAP, "group.id": f"{TOPIC}-{strategy}", "auto.offset.reset": "earliest",
            "enable.auto.commit": False, **(by_coordinator if strategy in COORDINATORS else classic),
        })
        consumer.subscribe([TOPIC])
        return consumer

    def poll_until(consumers, sizes):
        until = time.monotonic() + 60
        while sorted(len(c.assignment()) for c in consumers) != sizes:
            assert time.monotonic() < until, [c.assignment() for c in consumers]
            for consumer in consumers:
                consumer.poll(0.05)

    def owned(*consumers):
        return sorted(tp.partition for consumer in consumers for tp in consumer.assignment())

    for strategy in ["range", "roundrobin", "cooperative-sticky", *COORDINATORS]:
        first = member(strategy)
        poll_until([first], [3])
        second = member(strategy)
        poll_until([first, second], [1, 2])
        say(f"{strategy}: two", owned(first, second))
        tp = second.assignment()[0]
        second.commit(offsets=[TopicPartition(TOPIC, tp.partition, 3)], asynchronous=False)
        say(f"{strategy}: committed", second.committed([tp], 10)[0].offset)
        second.close()
        poll_until([first], [3])
        say(f"{strategy}: alone again", owned(first))
        first.close()
    # Both are gone, and the coordinator knows.
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    names = [f"{TOPIC}-{strategy}" for strategy in COORDINATORS]
    for name, group in sorted(admin.describe_consumer_groups(names).items()):
        group = group.result(10)
        say(f"described {name}", (group.state.name, group.type.name, len(group.members)))
    listed = [group for group in admin.list_consumer_groups().result(10).valid if group.group_id in names]
    say("listed", sorted((group.group_id, group.state.name, group.type.name) for group in listed))
    say("delete groups", settled(admin.delete_consumer_groups([*names, "confluent-missing"])))


topics()
produce()
consume()
groups()
