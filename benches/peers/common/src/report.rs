//! What a run cost, as one line of JSON.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

use crate::Args;

/// Counts time and CPU from its start.
pub struct Clock {
    start: Instant,
    cpu: ProcessTime,
    first: OnceLock<Instant>,
}

impl Clock {
    #[allow(clippy::new_without_default)]
    pub fn start() -> Self {
        Self { start: Instant::now(), cpu: ProcessTime::now(), first: OnceLock::new() }
    }

    /// Told with every batch of records: the steady rate counts from the first.
    pub fn came(&self) {
        self.first.get_or_init(Instant::now);
    }

    /// Prints the line of modes produce and consume.
    pub fn report(&self, peer: &str, args: &Args, records: u64, bytes: u64) {
        let (secs, cpu) = (self.start.elapsed().as_secs_f64(), self.cpu.elapsed().as_secs_f64());
        let steady = self.first.get().map_or(secs, |first| first.elapsed().as_secs_f64());
        println!(
            "{{\"peer\":\"{peer}\",\"mode\":\"{}\",\"records\":{records},\"secs\":{secs:.3},\"krec_s\":{:.1},\
             \"steady_krec_s\":{:.1},\"mb_s\":{:.1},\"cpu_ns_rec\":{:.1},\"peak_mb\":{:.1}}}",
            args.mode,
            records as f64 / secs / 1e3,
            records as f64 / steady / 1e3,
            bytes as f64 / secs / 1e6,
            cpu * 1e9 / records as f64,
            peak_mb(),
        );
    }

    /// Prints the line of modes latency and end-to-end, from microseconds.
    pub fn report_latency(&self, peer: &str, args: &Args, mut us: Vec<u64>) {
        let cpu = self.cpu.elapsed().as_secs_f64();
        us.sort_unstable();
        let at = |part: f64| us[((us.len() - 1) as f64 * part) as usize];
        println!(
            "{{\"peer\":\"{peer}\",\"mode\":\"{}\",\"records\":{},\"rate\":{},\"p50_us\":{},\"p95_us\":{},\
             \"p99_us\":{},\"p999_us\":{},\"max_us\":{},\"cpu_ns_rec\":{:.0},\"peak_mb\":{:.1}}}",
            args.mode,
            us.len(),
            args.rate,
            at(0.5),
            at(0.95),
            at(0.99),
            at(0.999),
            at(1.0),
            cpu * 1e9 / us.len() as f64,
            peak_mb(),
        );
    }
}

/// How long the idle modes wait before they count: what was begun has come to rest.
const SETTLE: Duration = Duration::from_secs(2);

/// Counts what a client does that has nothing to do. A wake-up is a voluntary context switch of any thread of the process.
pub struct Idle {
    start: Instant,
    settled: Option<(u64, ProcessTime)>,
}

impl Idle {
    #[allow(clippy::new_without_default)]
    pub fn start() -> Self {
        Self { start: Instant::now(), settled: None }
    }

    /// How long to wait for records once more; zero at the end.
    pub fn left(&mut self, args: &Args) -> Duration {
        let passed = self.start.elapsed();
        if self.settled.is_some() {
            return (SETTLE + args.idle).saturating_sub(passed);
        }
        if passed >= SETTLE {
            self.settled = Some((wakes(), ProcessTime::now()));
            return args.idle;
        }
        SETTLE - passed
    }

    pub fn report(&self, peer: &str, args: &Args) {
        let (before, cpu) = self.settled.as_ref().expect("idle for less than the time to settle");
        let (secs, wakes, connections) = (args.idle.as_secs_f64(), wakes() - before, connections());
        println!(
            "{{\"peer\":\"{peer}\",\"mode\":\"{}\",\"secs\":{secs:.1},\"wakes_s\":{:.2},\"connections\":{connections},\
             \"wakes_s_connection\":{:.2},\"cpu_us_s\":{:.0},\"peak_mb\":{:.1}}}",
            args.mode,
            wakes as f64 / secs,
            wakes as f64 / secs / connections.max(1) as f64,
            cpu.elapsed().as_secs_f64() * 1e6 / secs,
            peak_mb(),
        );
    }
}

fn wakes() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let of = |task: fs::DirEntry| {
        Some(field(&fs::read_to_string(task.path().join("status")).ok()?, "voluntary_ctxt_switches:"))
    };
    tasks.filter_map(Result::ok).filter_map(of).sum()
}

/// The TCP connections that are established: those of this process among the machine's.
fn connections() -> usize {
    let links = fs::read_dir("/proc/self/fd").expect("Linux").filter_map(Result::ok);
    let ours: Vec<String> = links
        .filter_map(|link| {
            fs::read_link(link.path()).ok()?.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(Into::into)
        })
        .collect();
    // Columns of /proc/net/tcp: sl, addresses, state (01 is established), queues, timer, retransmits, uid, timeout, inode.
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let is_ours = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(3) == Some(&"01") && columns.get(9).is_some_and(|inode| ours.iter().any(|own| own == inode))
    };
    tables.iter().flat_map(|table| table.lines()).filter(is_ours).count()
}

/// The most memory that the process has had resident so far.
fn peak_mb() -> f64 {
    field(&fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmHWM:") as f64 / 1024.0
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}
