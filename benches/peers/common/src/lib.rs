//! What every peer shares: the command line, the payloads and the accounting, so that two programs differ in nothing
//! but the client.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// The flags, the same for every peer: `benches/peers/run --help` tells what they mean.
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
    /// Eight bytes of key for each record, all different.
    pub keyed: bool,
    /// A partition at random for each record, instead of runs of a thousand.
    pub random: bool,
    /// Nothing is set but addresses and topic: what a client does when nobody tells it.
    pub defaults: bool,
    /// How many tasks enqueue at once.
    pub tasks: u64,
    /// Records a second, of mode latency.
    pub rate: u64,
    pub threads: usize,
    pub idempotent: bool,
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
            random: false,
            defaults: false,
            tasks: 1,
            rate: 1000,
            threads: 2,
            idempotent: true,
        };
        let mut words = std::env::args().skip(1);
        args.mode = words.next().expect("a mode: produce, consume or latency");
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
                "--random" => args.random = value == "true",
                "--defaults" => args.defaults = value == "true",
                "--tasks" => args.tasks = number(),
                "--rate" => args.rate = number(),
                "--threads" => args.threads = number() as usize,
                "--idempotent" => args.idempotent = value == "true",
                _ => panic!("there is no flag {flag}"),
            }
        }
        assert!(args.idempotent <= (args.acks == "all"), "--idempotent true needs --acks all");
        args
    }

    /// The partition of record number `i`, unless keys choose: runs of a thousand, or at random.
    pub fn partition(&self, i: u64) -> i32 {
        let n = if self.random { scramble(i) } else { i / 1000 };
        (n % self.partitions as u64) as i32
    }

    /// How many records task number `task` sends.
    pub fn share(&self, task: u64) -> u64 {
        self.records / self.tasks + u64::from(task < self.records % self.tasks)
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

/// Counts time and CPU from its start.
pub struct Clock {
    start: Instant,
    cpu: ProcessTime,
}

impl Clock {
    #[allow(clippy::new_without_default)]
    pub fn start() -> Self {
        Self { start: Instant::now(), cpu: ProcessTime::now() }
    }

    /// Prints the line of modes produce and consume.
    pub fn report(&self, peer: &str, args: &Args, records: u64, bytes: u64) {
        let (secs, cpu) = (self.start.elapsed().as_secs_f64(), self.cpu.elapsed().as_secs_f64());
        println!(
            "{{\"peer\":\"{peer}\",\"mode\":\"{}\",\"records\":{records},\"secs\":{secs:.3},\"krec_s\":{:.1},\
             \"mb_s\":{:.1},\"cpu_ns_rec\":{:.1},\"maxrss_mb\":{:.1}}}",
            args.mode,
            records as f64 / secs / 1e3,
            bytes as f64 / secs / 1e6,
            cpu * 1e9 / records as f64,
            peak_rss_mb(),
        );
    }

    /// Prints the line of mode latency, from microseconds.
    pub fn report_latency(&self, peer: &str, args: &Args, mut us: Vec<u64>) {
        let cpu = self.cpu.elapsed().as_secs_f64();
        us.sort_unstable();
        let at = |part: f64| us[((us.len() - 1) as f64 * part) as usize];
        println!(
            "{{\"peer\":\"{peer}\",\"mode\":\"latency\",\"records\":{},\"rate\":{},\"p50_us\":{},\"p95_us\":{},\
             \"p99_us\":{},\"p999_us\":{},\"max_us\":{},\"cpu_ns_rec\":{:.0},\"maxrss_mb\":{:.1}}}",
            us.len(),
            args.rate,
            at(0.5),
            at(0.95),
            at(0.99),
            at(0.999),
            at(1.0),
            cpu * 1e9 / us.len() as f64,
            peak_rss_mb(),
        );
    }
}

/// The most memory that the process has had resident so far.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// Records before the first that counts, in mode latency: connections and leaders are known then.
pub const WARM_UP: u64 = 200;
