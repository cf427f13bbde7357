"""confluent-kafka (librdkafka under Python) beside the Rust peers: same flags, same payloads, same JSON line."""

import argparse
import glob
import itertools
import json
import os
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, Producer, TopicPartition

MODES = ["produce", "latency", "idle-produce", "consume", "end-to-end", "idle-consume"]
MASK = (1 << 64) - 1


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="bench")
    numbers = {"partitions": 6, "records": 1_000_000, "size": 100, "linger-ms": 5, "batch": 128 << 10, "tasks": 1}
    numbers |= {"rate": 1000, "threads": 2, "in-flight": 0, "buffer": 256 << 20, "poll-max": 0, "stall-secs": 0}
    for flag, default in {**numbers, "idle-secs": 10}.items():
        parser.add_argument(f"--{flag}", type=int, default=default)
    words = {"codec": "none", "acks": "all", "keyed": "false", "spread": "runs", "defaults": "false", "idempotent": "true"}
    # It counts acknowledgements by callbacks in any case.
    for flag, default in {**words, "receipts": "true", "one-by-one": "false"}.items():
        parser.add_argument(f"--{flag}", default=default)
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


def field(path, name):
    """A number of a file like /proc/self/status."""
    try:
        with open(path, encoding="ascii", errors="replace") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
    except FileNotFoundError:  # a thread that has ended
        return 0


def peak_mb():
    return round(field("/proc/self/status", "VmHWM:") / 1024, 1)


def wakes():
    """A wake-up is a voluntary context switch of any thread of the process."""
    return sum(field(path, "voluntary_ctxt_switches:") for path in glob.glob("/proc/self/task/*/status"))


def connections():
    """The TCP connections that are established: those of this process among the machine's."""
    ours = {os.readlink(link) for link in glob.glob("/proc/self/fd/*") if os.path.islink(link)}
    count = 0
    for path in ["/proc/net/tcp", "/proc/net/tcp6"]:
        with open(path, encoding="ascii") as table:
            # Columns: sl, addresses, state (01 is established), queues, timer, retransmits, uid, timeout, inode.
            lines = [line.split() for line in table]
            count += sum(line[3] == "01" and f"socket:[{line[9]}]" in ours for line in lines[1:])
    return count


class Clock:
    def __init__(self):
        self.start, self.cpu, self.first = time.perf_counter(), time.process_time(), None

    def came(self):
        """Told with every batch of records: the steady rate counts from the first."""
        self.first = self.first or time.perf_counter()

    def report(self, args, records):
        now, cpu = time.perf_counter(), time.process_time() - self.cpu
        seconds, steady = now - self.start, now - (self.first or self.start)
        line = {"peer": "confluent", "mode": args.mode, "records": records, "secs": round(seconds, 3)}
        line |= {"krec_s": round(records / seconds / 1e3, 1), "steady_krec_s": round(records / steady / 1e3, 1)}
        line |= {"mb_s": round(records * args.size / seconds / 1e6, 1)}
        print(json.dumps(line | {"cpu_ns_rec": round(cpu * 1e9 / records, 1), "peak_mb": peak_mb()}))

    def report_latency(self, args, us):
        cpu, us = time.process_time() - self.cpu, sorted(us)
        at = lambda part: round(us[int((len(us) - 1) * part)])
        line = {"peer": "confluent", "mode": args.mode, "records": len(us), "rate": args.rate, "p50_us": at(0.5)}
        line |= {"p95_us": at(0.95), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": at(1)}
        print(json.dumps(line | {"cpu_ns_rec": round(cpu * 1e9 / len(us)), "peak_mb": peak_mb()}))


def producer(args):
    settings = {"bootstrap.servers": args.bootstrap}
    if args.in_flight:
        settings["max.in.flight"] = args.in_flight
    if args.defaults != "true":
        settings |= {
            "linger.ms": 0 if args.mode in ("latency", "end-to-end") else args.linger_ms,
            "batch.size": args.batch,
            "batch.num.messages": 100_000,
            "compression.type": args.codec,
            "acks": args.acks,
            "enable.idempotence": args.idempotent == "true",
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": args.buffer >> 10,
        }
    return Producer(settings)


def produce(args):
    client, values = producer(args), list(payloads(args.size))
    client.list_topics(args.topic, 10)
    acknowledged, failed = itertools.count(), itertools.count()  # several threads may poll

    def delivered(error, _):
        next(acknowledged if error is None else failed)

    def place(i):
        if args.keyed == "true":
            return {"key": i.to_bytes(8, "big")}
        if args.spread == "sticky":
            return {}
        return {"partition": (scramble(i) if args.spread == "random" else i // 1000) % args.partitions}

    def enqueue(numbers):
        for i in numbers:
            while True:
                try:
                    client.produce(args.topic, values[i % len(values)], on_delivery=delivered, **place(i))
                    break
                except BufferError:
                    client.poll(0.01)
            if i % 1000 == 0:
                client.poll(0)

    clock = Clock()
    if args.tasks == 1:
        enqueue(range(args.records))
    else:
        threads = [threading.Thread(target=enqueue, args=[range(n, args.records, args.tasks)]) for n in range(args.tasks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    client.flush(60)
    counts = next(acknowledged), next(failed)
    assert counts == (args.records, 0), counts
    clock.report(args, args.records)


def consumer(args, start):
    settings = {"bootstrap.servers": args.bootstrap, "group.id": "bench", "enable.auto.commit": False}
    if args.defaults != "true":
        # As the rdkafka peer: deep queues and a short back-off are librdkafka's best case.
        settings |= {"queued.min.messages": 10_000_000, "queued.max.messages.kbytes": 262_144}
        settings |= {"fetch.queue.backoff.ms": 1}
    client = Consumer(settings)
    client.assign([TopicPartition(args.topic, partition, start) for partition in range(args.partitions)])
    return client


def take(client, args, most=10_000):
    """Records that are there: `consume` waits for as many as it is asked for, so one is waited for, then what is left."""
    record = client.poll(10)
    assert record is not None, "nothing came for ten seconds"
    most = args.poll_max or most
    return [record, *(client.consume(most - 1, 0) if most > 1 else [])]


def consume(args):
    clock = Clock()
    client = consumer(args, OFFSET_BEGINNING)
    read = total = 0
    while read < (min(args.records, 1000) if args.stall_secs else args.records):
        records = take(client, args)
        clock.came()
        for record in records:
            value = record.value()
            total += value[len(value) // 2]
        read += len(records)
    time.sleep(args.stall_secs)
    clock.report(args, read)


def latency(args):
    client, values = producer(args), list(payloads(args.size))
    over, us, warm_up = threading.Event(), [], args.rate

    def serve():
        while not over.is_set():
            client.poll(0.1)

    threading.Thread(target=serve, daemon=True).start()
    clock, begun = Clock(), time.perf_counter()
    for i in range(args.records + warm_up):
        time.sleep(max(0.0, begun + i / args.rate - time.perf_counter()))
        if i == warm_up:
            clock = Clock()

        def delivered(error, _, start=time.perf_counter()):
            assert error is None, error
            us.append((time.perf_counter() - start) * 1e6)

        client.produce(args.topic, values[i % len(values)], partition=i % args.partitions, on_delivery=delivered)
    client.flush(60)
    over.set()
    clock.report_latency(args, us[warm_up:])


def end_to_end(args):
    """From the call that enqueues a record until the consumer has handed it out."""
    values, us, warm_up = list(payloads(args.size)), [], 2 * args.rate

    def read():
        client = consumer(args, OFFSET_END)
        while len(us) < args.records:
            for record in take(client, args):
                value = record.value()
                if int.from_bytes(value[:8], "little") >= warm_up:
                    us.append((time.perf_counter_ns() - int.from_bytes(value[8:16], "little")) / 1000)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    client, clock, begun = producer(args), Clock(), time.perf_counter()
    for i in range(args.records + warm_up):
        time.sleep(max(0.0, begun + i / args.rate - time.perf_counter()))
        if i == warm_up:
            clock = Clock()
        stamp = i.to_bytes(8, "little") + time.perf_counter_ns().to_bytes(8, "little")
        client.produce(args.topic, stamp + values[i % len(values)][16:], partition=i % args.partitions)
        client.poll(0)
    client.flush(60)
    reader.join(10)
    assert not reader.is_alive(), "nothing came for ten seconds"
    clock.report_latency(args, us)


def watch_idle(args, wait):
    wait(2)
    before, cpu = wakes(), time.process_time()
    wait(args.idle_secs)
    rate, count = (wakes() - before) / args.idle_secs, connections()
    line = {"peer": "confluent", "mode": args.mode, "secs": args.idle_secs, "wakes_s": round(rate, 2), "connections": count}
    line |= {"wakes_s_connection": round(rate / max(1, count), 2)}
    cpu = (time.process_time() - cpu) * 1e6 / args.idle_secs
    print(json.dumps(line | {"cpu_us_s": round(cpu), "peak_mb": peak_mb()}))


def idle_produce(args):
    client, values = producer(args), list(payloads(args.size))
    for partition in range(args.partitions):
        client.produce(args.topic, values[0], partition=partition)
    client.flush(60)
    watch_idle(args, client.poll)


def idle_consume(args):
    client = consumer(args, OFFSET_BEGINNING)

    def wait(seconds):
        record = client.poll(seconds)
        assert record is None, "a record came, or an error"

    watch_idle(args, wait)


if __name__ == "__main__":
    arguments = parse()
    modes = [produce, latency, idle_produce, consume, end_to_end, idle_consume]
    dict(zip(MODES, modes))[arguments.mode](arguments)
