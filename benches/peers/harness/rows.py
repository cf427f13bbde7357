"""What is compared: the rows, their runs, and the bars that milena is held to."""

from dataclasses import dataclass, field

PEERS = ["milena", "rdkafka", "franz-go", "rskafka", "krafka", "confluent"]

# A bar against other clients holds when milena's median is within this factor of it; one that is a number, exactly.
TOLERANCE = 1.05

MANY = 10_000  # partitions

COST = ["cpu_ns_rec", "krec_s", "peak_mb"]
SPEED = ["mb_s", "cpu_ns_rec", "peak_mb"]
STEADY = ["steady_krec_s", "cpu_ns_rec", "peak_mb"]
DELAY = ["p50_us", "p99_us", "cpu_ns_rec", "peak_mb"]
MEMORY = ["peak_mb", "krec_s"]
IDLE = ["wakes_s_connection", "wakes_s", "connections", "cpu_us_s", "peak_mb"]

MORE_IS_BETTER = {"krec_s", "steady_krec_s", "mb_s"}


@dataclass
class Cell:
    """One of the programs that take turns in a row: a client, perhaps with flags that others do not get."""

    label: str
    peer: str
    flags: str = ""
    partitions: int = 0  # of its topic; 0: the row's
    via: str = ""  # a listener behind the proxy
    fill: str = ""  # flags that its topic is filled with, beyond the row's


@dataclass
class Bar:
    """`milena`'s figure is to be at most (at least, for a rate) `factor` times the one of `of`: a label, "best" of the
    other clients, or "" for a number that stands alone."""

    figure: str
    factor: float
    of: str = ""
    milena: str = "milena"


@dataclass
class Row:
    mode: str
    about: str
    records: int = 0
    flags: str = ""
    partitions: int = 6
    figures: list = field(default_factory=list)
    lacks: dict = field(default_factory=dict)  # peers that do not offer what the row is about, and why
    instead: dict = field(default_factory=dict)  # label → flags, for a peer that takes part in several ways
    cells: list = field(default_factory=list)  # beside one for each peer
    only_cells: bool = False  # no cell for each peer
    via: str = ""
    fill: str = ""  # flags that the topic is filled with, of modes that read
    bars: list = field(default_factory=list)

    def all_cells(self, peers):
        cells = []
        for peer in peers:
            if peer in self.lacks:
                continue
            if not self.only_cells:
                ways = {label: flags for label, flags in self.instead.items() if label.split()[0].rstrip(",") == peer}
                cells += [Cell(label, peer, flags) for label, flags in (ways or {peer: ""}).items()]
            cells += [cell for cell in self.cells if cell.peer == peer]
        for cell in cells:
            cell.partitions = cell.partitions or self.partitions
            cell.via = cell.via or self.via
        return cells


NO_PARTITIONER = {"rskafka": "has no partitioner: its caller names the partition"}
NO_PRODUCER = {"rskafka": "has no producer that tasks could share or that could be left idle, only batches per partition"}
NO_DEFAULTS = {"rskafka": "has no producer over several partitions, so no settings of its own"}
BOTH_WAYS = {"milena poll": "", "milena recv": "--one-by-one true"}
BOTH_QUEUES = {"rdkafka": "", "rdkafka, its own queues": "--defaults true"}


def read_with(codec):
    return Row(
        "consume", f"1 KiB records, {codec}", 500_000, "--size 1024", fill=f"--codec {codec}", figures=COST,
        instead={**BOTH_WAYS, **BOTH_QUEUES},
        bars=[Bar("cpu_ns_rec", 0.8, label, "milena poll") for label in BOTH_QUEUES],
    )


def distances():
    """Each client at each distance; milena is held to itself at none."""
    return [Cell(f"{peer}, {ms} ms", peer, via=f"RTT{ms}") for peer in PEERS for ms in (0, 5, 20)]


def refetches():
    return [
        Cell(f"batches of {kib} KiB, poll_max {most or 'all'}", "milena", f"--poll-max {most}", fill=f"--batch {kib << 10}")
        for kib in (16, 128, 900)
        for most in (1, 100, 0)
    ]


ROWS = {
    # ---- Produce
    "100": Row(
        "produce", "100-byte records, 6 partitions, acks=all, idempotent, receipts kept", 2_000_000, figures=COST,
        bars=[
            Bar("cpu_ns_rec", 250), Bar("cpu_ns_rec", 0.4, "rdkafka"), Bar("cpu_ns_rec", 0.45, "franz-go"),
            Bar("cpu_ns_rec", 1, "rskafka"), Bar("krec_s", 1, "best"),
        ],
    ),
    "1k": Row("produce", "1 KiB records", 500_000, "--size 1024", figures=COST, bars=[Bar("cpu_ns_rec", 0.6, "rdkafka")]),
    "10k": Row("produce", "10 KiB records", 100_000, "--size 10240", figures=COST, bars=[Bar("cpu_ns_rec", 0.9, "rdkafka")]),
    "lz4": Row(
        "produce", "1 KiB records, lz4", 500_000, "--size 1024 --codec lz4", figures=COST,
        bars=[Bar("cpu_ns_rec", 0.8, "rdkafka")],
    ),
    "zstd": Row(
        "produce", "1 KiB records, zstd", 300_000, "--size 1024 --codec zstd", figures=COST,
        bars=[Bar("cpu_ns_rec", 0.8, "rdkafka")],
    ),
    "keyed": Row(
        "produce", "100 bytes, a key each", 2_000_000, figures=COST, lacks=NO_PARTITIONER, flags="--keyed true",
        cells=[Cell("milena without keys", "milena", "--keyed false")],
        bars=[Bar("cpu_ns_rec", 1.3, "milena without keys"), Bar("cpu_ns_rec", 1, "best"), Bar("krec_s", 1, "best")],
    ),
    "tasks": Row(
        "produce", "100 bytes, 16 tasks that enqueue", 2_000_000, figures=COST, lacks=NO_PRODUCER, flags="--tasks 16",
        cells=[Cell("milena, one task", "milena", "--tasks 1")],
        bars=[Bar("cpu_ns_rec", 1.3, "milena, one task"), Bar("cpu_ns_rec", 1, "best"), Bar("krec_s", 1, "best")],
    ),
    "default": Row(
        "produce", "100 bytes, every client as it comes: not all of them idempotent", 2_000_000, "--defaults true",
        figures=COST, lacks=NO_DEFAULTS, bars=[Bar("cpu_ns_rec", 1, "best"), Bar("krec_s", 1, "best")],
    ),
    "rtt-in-flight": Row(
        "produce", "one partition, 20 ms round trip, 1 KiB: five batches in flight and one", 60_000, "--size 1024",
        partitions=1, via="RTT20", figures=SPEED, only_cells=True,
        cells=[Cell("milena", "milena"), Cell("milena, one in flight", "milena", "--in-flight 1")],
        bars=[Bar("mb_s", 4.5, "milena, one in flight")],
    ),
    "rtt": Row(
        "produce", "one partition, 20 ms round trip, 1 KiB, every client as it comes", 60_000,
        "--size 1024 --defaults true", partitions=1, via="RTT20", figures=SPEED, lacks=NO_DEFAULTS,
        bars=[Bar("mb_s", 1, "best")],
    ),
    "rtt-100": Row(
        "produce", "one partition, 20 ms round trip, 100 bytes, every client as it comes", 500_000, "--defaults true",
        partitions=1, via="RTT20", figures=SPEED, lacks=NO_DEFAULTS, bars=[Bar("mb_s", 1, "best")],
    ),
    "latency": Row(
        "latency", "send at 1,000 a second, linger 0", 5_000, "--rate 1000", figures=DELAY,
        bars=[Bar(figure, 1, "best") for figure in DELAY[:3]],
    ),
    "latency-2k": Row(
        "latency", "send at 2,000 a second, linger 0", 10_000, "--rate 2000", figures=DELAY,
        bars=[Bar("cpu_ns_rec", 1, "best")],
    ),
    "default-latency": Row(
        "latency", "send at 1,000 a second, every client as it comes, its linger included", 5_000,
        "--defaults true --rate 1000", figures=DELAY, lacks=NO_DEFAULTS,
    ),
    "memory": Row(
        "produce", "resident memory with a buffer of 32 MiB, 1 KiB, receipts dropped", 500_000,
        f"--size 1024 --receipts false --buffer {32 << 20}", figures=MEMORY,
        lacks={"rskafka": "has no buffer: a batch is its caller's"}, bars=[Bar("peak_mb", 32 + 16)],
    ),
    "idle-produce": Row(
        "idle-produce", "a producer that has sent to 6 partitions and does nothing", figures=IDLE, lacks=NO_PRODUCER,
        bars=[Bar("wakes_s_connection", 2)],
    ),
    # ---- Consume
    "consume": Row(
        "consume", "100-byte records, 6 partitions", 4_000_000, figures=COST, instead=BOTH_WAYS,
        bars=[
            Bar("cpu_ns_rec", 100, milena="milena poll"), Bar("cpu_ns_rec", 0.5, "best", "milena poll"),
            Bar("krec_s", 1, "best", "milena poll"), Bar("cpu_ns_rec", 200, milena="milena recv"),
            Bar("cpu_ns_rec", 1, "best", "milena recv"), Bar("krec_s", 1, "best", "milena recv"),
        ],
    ),
    "consume-none": read_with("none"),
    "consume-gzip": read_with("gzip"),
    "consume-snappy": read_with("snappy"),
    "consume-lz4": read_with("lz4"),
    "consume-zstd": read_with("zstd"),
    "default-consume": Row(
        "consume", "100 bytes, every client as it comes", 4_000_000, "--defaults true", figures=COST, instead=BOTH_WAYS,
        bars=[Bar("cpu_ns_rec", 0.5, "best", "milena poll"), Bar("krec_s", 1, "best", "milena poll")],
    ),
    "consume-rtt": Row(
        "consume", "100 bytes at 0, 5 and 20 ms round trip; the rate from the first record on", 4_000_000, figures=STEADY,
        cells=distances(), only_cells=True,
        bars=[Bar("steady_krec_s", 1, "milena, 0 ms", f"milena, {ms} ms") for ms in (5, 20)],
    ),
    "end-to-end": Row(
        "end-to-end", "from enqueue to the consumer's hand at 1,000 a second, linger 0, both in one process", 5_000,
        "--rate 1000", figures=DELAY, bars=[Bar(figure, 1, "best") for figure in DELAY[:2]],
    ),
    "end-to-end-1k": Row(
        "end-to-end", "the same with 1,000 partitions, one record for each of them in turn", 5_000, "--rate 1000",
        partitions=1000, figures=DELAY, lacks={"rskafka": "needs a connection for each partition"},
        bars=[Bar(figure, 1, "best") for figure in ("p50_us", "cpu_ns_rec")],
    ),
    "refetch": Row(
        "consume", "bytes from the broker ÷ bytes of the log, read once, 1 KiB records", 200_000, "--size 1024",
        fill="--linger-ms 1000", via="RTT0", figures=["refetch", *COST], cells=refetches(), only_cells=True,
        bars=[Bar("refetch", 1.05, milena=cell.label) for cell in refetches()],
    ),
    "consume-memory": Row(
        "consume", "resident memory of a caller that reads 1,000 records of 1 KiB and stops, every client as it comes",
        500_000, "--size 1024 --defaults true --stall-secs 5", figures=["peak_mb"],
        bars=[Bar("peak_mb", 64 + 32)],
    ),
    "consume-memory-1k": Row(
        "consume", "the same with 1,000 partitions, in batches of 16 KiB", 500_000,
        "--size 1024 --defaults true --stall-secs 5", partitions=1000, fill="--linger-ms 1000 --batch 16384",
        figures=["peak_mb"], lacks={"rskafka": "has no consumer of several partitions"}, bars=[Bar("peak_mb", 64 + 32)],
    ),
    "idle-consume": Row(
        "idle-consume", "a consumer of 1,000 partitions where nothing comes", partitions=1000, via="RTT0",
        figures=[*IDLE, "sent_kb"], lacks={"rskafka": "has no consumer of several partitions"},
        bars=[Bar("wakes_s_connection", 2)],
    ),
    # ---- 10,000 partitions: last, because the broker is not the same afterwards
    "runs": Row(
        "produce", "100 bytes, 10,000 partitions in runs of 1,000", 2_000_000, partitions=MANY, figures=COST,
        lacks=NO_PRODUCER,
        cells=[
            Cell("milena sticky", "milena", "--spread sticky"),
            Cell("milena, one partition", "milena", partitions=1),
        ],
        bars=[Bar("cpu_ns_rec", 1.2, "milena, one partition", way) for way in ("milena", "milena sticky")],
    ),
    "random": Row(
        "produce", "100 bytes, 10,000 partitions at random", 1_000_000, "--spread random", partitions=MANY, figures=COST,
        lacks=NO_PRODUCER, bars=[Bar("cpu_ns_rec", 0.5, "rdkafka")],
    ),
}
