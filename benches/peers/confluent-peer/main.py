"""confluent-kafka (librdkafka under Python) beside the Rust peers: same flags, same payloads, same JSON line."""

import argparse
import json
import resource
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

WARM_UP = 200
MASK = (1 << 64) - 1


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["produce", "consume", "latency"])
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="bench")
    for flag, default in [("partitions", 6), ("records", 1_000_000), ("size", 100), ("linger-ms", 5), ("batch", 131072)]:
        parser.add_argument(f"--{flag}", type=int, default=default)
    for flag, default in [("tasks", 1), ("rate", 1000), ("threads", 2)]:
        parser.add_argument(f"--{flag}", type=int, default=default)
    for flag, default in [("codec", "none"), ("acks", "all"), ("keyed", "false"), ("random", "false")]:
        parser.add_argument(f"--{flag}", default=default)
    parser.add_argument("--defaults", default="false")
    parser.add_argument("--idempotent", default="true")
    return parser.parse_args()


def scramble(i):
    """splitmix64, as in common/src/lib.rs."""
    z = ((i + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def payloads(size):
    seed = 0x9E3779B97F4A7C15

    def draw():
        nonlocal seed
        seed ^= (seed << 13) & MASK
        seed ^= seed >> 7
        seed ^= (seed << 17) & MASK
        return seed

    for i in range(1024):
        user, late, item, origin = draw() % 5000, draw() % 1_000_000, draw() % 20_000, draw()
        text = (
            f'{{"id":{i * 7919},"user":"user-{user}","ts":{1_700_000_000_000 + late},"event":"page_view",'
            f'"path":"/item/{item}","ref":"{origin:016x}"'
        )
        while len(text) + 1 < size:
            text += f',"f{draw() % 30}":{draw() % 100_000}'
        yield (text[:size].ljust(size)[: size - 1] + "}").encode() if size else b""


class Clock:
    def __init__(self):
        self.start, self.cpu = time.perf_counter(), time.process_time()

    def report(self, args, records, **figures):
        seconds, cpu = time.perf_counter() - self.start, time.process_time() - self.cpu
        line = {"peer": "confluent", "mode": args.mode, "records": records, "secs": round(seconds, 3)}
        line |= {"krec_s": round(records / seconds / 1e3, 1), "mb_s": round(records * args.size / seconds / 1e6, 1)}
        line |= {"cpu_ns_rec": round(cpu * 1e9 / records, 1)}
        line |= {"maxrss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)} | figures
        print(json.dumps(line))


def producer(args):
    settings = {"bootstrap.servers": args.bootstrap}
    if args.defaults != "true":
        settings |= {
            "linger.ms": 0 if args.mode == "latency" else args.linger_ms,
            "batch.size": args.batch,
            "batch.num.messages": 100_000,
            "compression.type": args.codec,
            "acks": args.acks,
            "enable.idempotence": args.idempotent == "true",
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 262_144,
        }
    return Producer(settings)


def produce(args):
    client, values = producer(args), list(payloads(args.size))
    client.list_topics(args.topic, 10)
    acknowledged = failed = 0

    def delivered(error, _):
        nonlocal acknowledged, failed
        if error is None:
            acknowledged += 1
        else:
            failed += 1

    clock = Clock()
    for i in range(args.records):
        if args.keyed == "true":
            where = {"key": i.to_bytes(8, "big")}
        else:
            where = {"partition": (scramble(i) if args.random == "true" else i // 1000) % args.partitions}
        while True:
            try:
                client.produce(args.topic, values[i % len(values)], on_delivery=delivered, **where)
                break
            except BufferError:
                client.poll(0.01)
        if i % 1000 == 0:
            client.poll(0)
    client.flush(60)
    assert (acknowledged, failed) == (args.records, 0), (acknowledged, failed)
    clock.report(args, args.records)


def consume(args):
    settings = {"bootstrap.servers": args.bootstrap, "group.id": "bench", "enable.auto.commit": False}
    if args.defaults != "true":
        # As the rdkafka peer: deep queues and a short back-off are librdkafka's best case.
        settings |= {"queued.min.messages": 10_000_000, "queued.max.messages.kbytes": 262_144}
        settings |= {"fetch.queue.backoff.ms": 1}
    client = Consumer(settings)
    clock = Clock()
    client.assign([TopicPartition(args.topic, partition, 0) for partition in range(args.partitions)])
    read = total = 0
    while read < args.records:
        records = client.consume(10_000, 10)
        assert records, f"nothing came for ten seconds, after {read} records"
        for record in records:
            value = record.value()
            total += value[len(value) // 2]
        read += len(records)
    clock.report(args, read)


def latency(args):
    client, values = producer(args), list(payloads(args.size))
    over, us = threading.Event(), []

    def serve():
        while not over.is_set():
            client.poll(0.1)

    threading.Thread(target=serve, daemon=True).start()
    clock, due = Clock(), time.perf_counter()
    for i in range(args.records + WARM_UP):
        due += 1 / args.rate
        time.sleep(max(0.0, due - time.perf_counter()))
        if i == WARM_UP:
            clock = Clock()

        def delivered(error, _, start=time.perf_counter()):
            assert error is None, error
            us.append((time.perf_counter() - start) * 1e6)

        client.produce(args.topic, values[i % len(values)], partition=i % args.partitions, on_delivery=delivered)
    client.flush(60)
    over.set()
    measured = sorted(us[WARM_UP:])
    at = lambda part: round(measured[int((len(measured) - 1) * part)])
    figures = {"p50_us": at(0.5), "p95_us": at(0.95), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": at(1)}
    clock.report(args, len(measured), rate=args.rate, **figures)


if __name__ == "__main__":
    arguments = parse()
    {"produce": produce, "consume": consume, "latency": latency}[arguments.mode](arguments)
