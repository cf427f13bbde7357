"""What runs: the programs, the broker, the proxy before it."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
KAFKA = HERE.parent.parent / "scripts" / "kafka"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "milena-peers"
CONFLUENT = "confluent-kafka==2.16.1"

# Listeners behind the proxy, and their round trips in milliseconds. That of none counts bytes, and makes a fair
# comparison with the others: the proxy itself costs time.
DISTANCES = {"RTT0": 0, "RTT5": 5, "RTT20": 20}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def build(name, profile):
    """The command that runs a program, built if need be. The profile is for those in Rust."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if name == "franz-go":
        program = CACHE / "franz-go-peer"
        subprocess.run(["go", "build", "-o", program, "."], cwd=HERE / "franz-peer", check=True)
        return [str(program)]
    if name == "confluent":
        venv = CACHE / "venv"
        python = venv / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        listed = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True)
        if CONFLUENT not in listed.stdout:
            say(f"installing {CONFLUENT}")
            subprocess.run([python, "-m", "pip", "install", "--quiet", CONFLUENT], check=True)
        return [str(python), str(HERE / "confluent-peer" / "main.py")]
    # Checkouts share what is compiled, and each keeps its own programs: another's run must not replace them under ours.
    package = "proxy" if name == "proxy" else f"{name}-peer"
    target = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
    command = ["cargo", "build", "--profile", profile, "--quiet", "-p", package]
    subprocess.run(command, cwd=HERE, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    own = CACHE / hashlib.sha256(str(HERE).encode()).hexdigest()[:8] / profile
    own.mkdir(parents=True, exist_ok=True)
    shutil.copy2(target / profile / package, own / f"{package}.new")
    os.replace(own / f"{package}.new", own / package)
    return [str(own / package)]


def build_all(peers, profile):
    """Commands by name. milena's is always there, because it makes the topics, and the proxy's."""
    if "MILENA_PEERS_COMMANDS" in os.environ:
        return json.loads(os.environ["MILENA_PEERS_COMMANDS"])
    commands = {"milena": build("milena", profile), "proxy": build("proxy", profile)}
    for peer in peers:
        if peer in commands:
            continue
        try:
            say(f"building {peer}")
            commands[peer] = build(peer, profile)
        except (OSError, subprocess.CalledProcessError) as error:
            say(f"{peer} is left out: {error}")
    return commands


def exec_with_broker(args, commands, heap):
    """Starts this program again, on a broker of its own; does not return. The proxy's ports are chosen here because
    the broker has to advertise them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(len(DISTANCES) * args.brokers)]
    ports = iter([str(server.getsockname()[1]) for server in sockets])
    command = [str(KAFKA), "run", "--version", args.version, "--brokers", str(args.brokers)]
    command += ["--config", "log.segment.delete.delay.ms=1000"]  # what is deleted makes room soon
    for name in DISTANCES:
        chosen = ",".join(next(ports) for _ in range(args.brokers))
        os.environ[f"MILENA_PEERS_{name}"] = chosen
        command += ["--proxied", f"{name}={chosen}"]
    for server in sockets:
        server.close()
    os.environ["MILENA_PEERS_COMMANDS"] = json.dumps(commands)
    os.environ.setdefault("MILENA_KAFKA_JVM", heap)
    os.execv(KAFKA, [*command, "--", sys.executable, *sys.argv])


def run_program(command, words):
    """A program's line, or the last words of one that failed."""
    try:
        env = {**os.environ, "RUST_BACKTRACE": "0"}
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=300, env=env)
    except subprocess.TimeoutExpired:
        return None, "not done within 300 s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        # A panic's own message stands below the line that says where.
        said = [line for line in done.stderr.splitlines() if line.strip() and "RUST_BACKTRACE" not in line]
        return None, (said or [f"status {done.returncode}"])[-1][:160]
    return json.loads(lines[-1]), None


class Broker:
    """One that runs, and the topics on it. Without the script's own environment there is no proxy and no folder."""

    def __init__(self, bootstrap, commands):
        self.bootstrap, self.commands = bootstrap, commands
        self.folder, self.brokers = os.environ.get("KAFKA_DIR"), int(os.environ.get("KAFKA_BROKERS", "1"))
        self.proxy, self.listeners = None, {}
        if "MILENA_PEERS_RTT0" in os.environ:
            self.start_proxy()

    def start_proxy(self):
        words = []
        for name, ms in DISTANCES.items():
            ports = os.environ[f"MILENA_PEERS_{name}"].split(",")
            words += [f"{port}={to}={ms * 1000}" for port, to in zip(ports, os.environ[f"KAFKA_{name}"].split(","))]
            self.listeners[name] = ports
        command = [*self.commands["proxy"], *words]
        self.proxy = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.proxy.stdout.readline().strip() != "ready":
            raise SystemExit("the proxy did not start")

    def passed(self, listener):
        """Bytes to the brokers and from them, through a listener behind the proxy."""
        self.proxy.stdin.write("\n")
        self.proxy.stdin.flush()
        counts = json.loads(self.proxy.stdout.readline())
        return [sum(counts[port][way] for port in self.listeners[listener]) for way in (0, 1)]

    def address(self, listener):
        if not listener:
            return self.bootstrap
        return f"127.0.0.1:{self.listeners[listener][0]}"

    def _topic(self, mode, topic, *words):
        command = [*self.commands["milena"], mode, "--bootstrap", self.bootstrap, "--topic", topic, *words]
        subprocess.run(command, check=True, timeout=180, stdout=subprocess.DEVNULL)

    def create(self, topic, partitions):
        self._topic("create", topic, "--partitions", str(partitions))

    def delete(self, topic):
        self._topic("delete", topic)

    def log_bytes(self, topic):
        """Of one copy of a topic's log."""
        sizes = [path.stat().st_size for path in Path(self.folder).glob(f"*/data/{topic}-*/*.log")]
        return sum(sizes) / self.brokers
