//! What is compressed: made from a seed, the same on every machine.

use fastrand::Rng;

pub const KINDS: [&str; 3] = ["json", "repetitive", "random"];

/// `count` inputs of `size` bytes, each another part of the same kind.
pub fn inputs(kind: &str, size: usize, count: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(20_261_121);
    let mut all = Vec::new();
    while all.len() < size * count {
        match kind {
            "json" => log_line(&mut rng, &mut all),
            "repetitive" => sensor_line(&mut rng, &mut all),
            _ => all.push(rng.u8(..)),
        }
    }
    all.chunks_exact(size).take(count).map(<[u8]>::to_vec).collect()
}

/// A line of a service's log: the same words again and again, and a trace id that is nothing but noise.
fn log_line(rng: &mut Rng, out: &mut Vec<u8>) {
    const SERVICES: [&str; 6] = ["checkout", "search", "payment", "inventory", "gateway", "profile"];
    const PATHS: [&str; 6] =
        ["/api/v1/orders", "/api/v1/cart", "/api/v1/search", "/api/v2/users", "/healthz", "/api/v1/items"];
    const MESSAGES: [&str; 5] = [
        "request completed",
        "cache miss, reading from the primary store",
        "upstream answered slowly",
        "retrying after a connection reset",
        "user session refreshed",
    ];
    const LEVELS: [&str; 8] = ["INFO", "INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"];
    let time = 1_790_000_000_000u64 + out.len() as u64 / 25 + rng.u64(..20);
    let line = format!(
        "{{\"ts\":{time},\"level\":\"{}\",\"service\":\"{}\",\"host\":\"ip-10-0-{}-{}\",\"trace_id\":\"{:016x}\",\
         \"path\":\"{}/{}\",\"status\":{},\"duration_ms\":{}.{:03},\"user_id\":{},\"message\":\"{}\"}}\n",
        pick(rng, &LEVELS),
        pick(rng, &SERVICES),
        rng.u8(..4),
        rng.u8(..32),
        rng.u64(..),
        pick(rng, &PATHS),
        rng.u32(..1_000),
        [200, 200, 200, 200, 201, 204, 404, 500][rng.usize(..8)],
        rng.u32(..900),
        rng.u32(..1_000),
        rng.u32(..100_000),
        pick(rng, &MESSAGES),
    );
    out.extend_from_slice(line.as_bytes());
}

/// A line that differs from the one before it in a digit or two.
fn sensor_line(rng: &mut Rng, out: &mut Vec<u8>) {
    let degrees = 20 + u32::from(rng.u8(..100) == 0);
    let line = format!("{{\"sensor\":\"boiler-7\",\"unit\":\"celsius\",\"value\":{degrees}.5,\"quality\":\"good\"}}\n");
    out.extend_from_slice(line.as_bytes());
}

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}
