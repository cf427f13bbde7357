//! What every peer shares: the command line, the payloads and the accounting, so that two programs differ in nothing
//! but the client.

mod report;

use std::time::{Duration, Instant};

pub use report::{Clock, Idle};

/// The flags, the same for every peer: `benches/peers/README.md` tells what they mean.
#[derive(Clone, Debug)]
pub struct Args {
    pub mode: String,
    pub bootstrap: String,
    pub topic: String,
    pub partitions: i32,
    pub records: u64,
    pub size: usize,
    pub codec: String,
    pub acks: String,
    pub linger: Duration,
    pub batch: usize,
    /// Eight bytes of key for each record, all different, choose the partition.
    pub keyed: bool,
    /// Without keys, who chooses it: runs of a thousand records, a draw for each, or the client (`sticky`).
    pub spread: Spread,
    /// Nothing is set but addresses and topic: what a client does when nobody tells it.
    pub defaults: bool,
    /// How many tasks enqueue at once.
    pub tasks: u64,
    /// Records a second, of modes latency and end-to-end.
    pub rate: u64,
    pub threads: usize,
    pub idempotent: bool,
    /// Whether each record's receipt is kept until all are enqueued, or dropped at once.
    pub receipts: bool,
    /// Produce requests in flight on a connection; 0 is the client's own number.
    pub in_flight: usize,
    /// What a producer may buffer.
    pub buffer: usize,
    /// How many records to take at once, where the client offers it; 0 is as many as there are.
    pub poll_max: usize,
    /// Records one by one, where the client offers both: milena's `recv` instead of `poll`.
    pub one_by_one: bool,
    /// How long mode consume stops reading after the first thousand records; it ends there.
    pub stall: Duration,
    /// How long the modes idle-produce and idle-consume watch.
    pub idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    Runs,
    Random,
    Sticky,
}

impl Args {
    /// From the command line. A flag that is not known, or that lacks its value, ends the program.
    pub fn parse() -> Self {
        let mut args = Self {
            mode: String::new(),
            bootstrap: "127.0.0.1:9092".into(),
            topic: "bench".into(),
            partitions: 6,
            records: 1_000_000,
            size: 100,
            codec: "none".into(),
            acks: "all".into(),
            linger: Duration::from_millis(5),
            batch: 128 << 10,
            keyed: false,
            spread: Spread::Runs,
            defaults: false,
            tasks: 1,
            rate: 1000,
            threads: 2,
            idempotent: true,
            receipts: true,
            in_flight: 0,
            buffer: 256 << 20,
            poll_max: 0,
            one_by_one: false,
            stall: Duration::ZERO,
            idle: Duration::from_secs(10),
        };
        let mut words = std::env::args().skip(1);
        args.mode = words.next().expect("a mode: produce, latency, consume, end-to-end, idle-produce or idle-consume");
        while let Some(flag) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{flag} lacks its value"));
            let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{flag} takes a number, not {value}"));
            match flag.as_str() {
                "--bootstrap" => args.bootstrap = value,
                "--topic" => args.topic = value,
                "--partitions" => args.partitions = number() as i32,
                "--records" => args.records = number(),
                "--size" => args.size = number() as usize,
                "--codec" => args.codec = value,
                "--acks" => args.acks = value,
                "--linger-ms" => args.linger = Duration::from_millis(number()),
                "--batch" => args.batch = number() as usize,
                "--keyed" => args.keyed = value == "true",
                "--spread" => {
                    args.spread = match value.as_str() {
                        "runs" => Spread::Runs,
                        "random" => Spread::Random,
                        "sticky" => Spread::Sticky,
                        _ => panic!("--spread takes runs, random or sticky, not {value}"),
                    }
                }
                "--defaults" => args.defaults = value == "true",
                "--tasks" => args.tasks = number(),
                "--rate" => args.rate = number(),
                "--threads" => args.threads = number() as usize,
                "--idempotent" => args.idempotent = value == "true",
                "--receipts" => args.receipts = value == "true",
                "--in-flight" => args.in_flight = number() as usize,
                "--buffer" => args.buffer = number() as usize,
                "--poll-max" => args.poll_max = number() as usize,
                "--one-by-one" => args.one_by_one = value == "true",
                "--stall-secs" => args.stall = Duration::from_secs(number()),
                "--idle-secs" => args.idle = Duration::from_secs(number()),
                _ => panic!("there is no flag {flag}"),
            }
        }
        assert!(args.idempotent <= (args.acks == "all"), "--idempotent true needs --acks all");
        args
    }

    /// The partition of record number `i`, unless its key or the client chooses.
    pub fn partition(&self, i: u64) -> Option<i32> {
        let n = match self.spread {
            _ if self.keyed => return None,
            Spread::Runs => i / 1000,
            Spread::Random => scramble(i),
            Spread::Sticky => return None,
        };
        Some((n % self.partitions as u64) as i32)
    }

    /// How many records task number `task` sends.
    pub fn share(&self, task: u64) -> u64 {
        self.records / self.tasks + u64::from(task < self.records % self.tasks)
    }

    /// The linger of this mode: none where latency is measured.
    pub fn linger(&self) -> Duration {
        if self.mode == "latency" || self.mode == "end-to-end" { Duration::ZERO } else { self.linger }
    }

    /// Records before the first that counts: connections and leaders are known then, and a consumer at the end is there.
    pub fn warm_up(&self) -> u64 {
        if self.mode == "end-to-end" { 2 * self.rate } else { self.rate }
    }

    /// When record number `i` of an open loop is due, from its start.
    pub fn due(&self, i: u64) -> Duration {
        Duration::from_nanos(i * 1_000_000_000 / self.rate)
    }
}

/// splitmix64: the same numbers in every run, in no order.
fn scramble(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A thousand distinct, moderately compressible payloads, like JSON, of exactly `size` bytes.
pub fn payloads(size: usize) -> Vec<Vec<u8>> {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let payload = |i: u64| {
        let (user, late, item, origin) = (next() % 5000, next() % 1_000_000, next() % 20_000, next());
        let mut text = format!(
            "{{\"id\":{},\"user\":\"user-{user}\",\"ts\":{},\"event\":\"page_view\",\"path\":\"/item/{item}\",\"ref\":\"{origin:016x}\"",
            i * 7919,
            1_700_000_000_000 + late,
        );
        while text.len() + 1 < size {
            text.push_str(&format!(",\"f{}\":{}", next() % 30, next() % 100_000));
        }
        let mut bytes = text.into_bytes();
        bytes.resize(size, b' ');
        if let Some(last) = bytes.last_mut() {
            *last = b'}';
        }
        bytes
    };
    (0..1024).map(payload).collect()
}

/// A payload that carries its number and when it was made, for mode end-to-end, whose both sides are one process.
pub struct Stamps {
    origin: Instant,
    first: u64,
}

impl Stamps {
    pub fn new(args: &Args) -> Self {
        assert!(args.size >= 16, "mode end-to-end needs records of at least 16 bytes");
        Self { origin: Instant::now(), first: args.warm_up() }
    }

    pub fn put(&self, payload: &[u8], i: u64) -> Vec<u8> {
        let mut stamped = payload.to_vec();
        stamped[..8].copy_from_slice(&i.to_le_bytes());
        stamped[8..16].copy_from_slice(&(self.origin.elapsed().as_nanos() as u64).to_le_bytes());
        stamped
    }

    /// Microseconds from `put` until now, unless the record belongs to the warm-up.
    pub fn since(&self, value: &[u8]) -> Option<u64> {
        let number = |at: usize| u64::from_le_bytes(value[at..at + 8].try_into().unwrap());
        let us = (self.origin.elapsed().as_nanos() as u64 - number(8)) / 1000;
        (number(0) >= self.first).then_some(us)
    }
}
