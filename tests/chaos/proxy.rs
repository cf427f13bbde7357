//! Stands before each broker, at the address that it advertises, and harms connections: at any byte, in either direction.
//!
//! ```text
//!   client ── requests ──▶ proxy ──▶ broker      after so many bytes of one direction:
//!          ◀── answers ───       ◀──             a cut, a stall, or for answers: all that follows is swallowed
//! ```
//! It knows nothing of Kafka: frames, handshakes and batches are cut wherever the byte happens to be.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::run::Random;

const MS: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Cut,
    /// Nothing passes for so long.
    Stall(Duration),
    /// What the broker answers does not arrive any more, and what it is asked does.
    Swallow,
}

/// What becomes of a connection, after so many bytes of one of its directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    of_answers: bool,
    after: usize,
    harm: Harm,
}

impl Fate {
    /// As likely around 16 bytes as around 100,000: handshakes are hit, and connections that have worked for long.
    fn draw(random: &mut Random) -> Self {
        let magnitude = 4 + random.below(13);
        let after = ((1 << magnitude) + random.below(1 << magnitude)) as usize;
        let of_answers = random.below(2) == 0;
        let harm = match random.below(10) {
            0 => Harm::Stall(random.between(100 * MS, 5_000 * MS)),
            1 | 2 if of_answers => Harm::Swallow,
            _ => Harm::Cut,
        };
        Self { of_answers, after, harm }
    }
}

#[derive(Debug, Default)]
pub struct Counts {
    pub connections: AtomicUsize,
    pub cuts: AtomicUsize,
    pub stalls: AtomicUsize,
    pub swallowed: AtomicUsize,
}

/// One for all brokers of a cluster.
pub struct Proxy {
    pub counts: Counts,
    addresses: Vec<String>,
    is_harmful: AtomicBool,
    random: Mutex<Random>,
}

impl Proxy {
    /// Listens at each of the first addresses, and passes on to the broker at the second.
    pub async fn start(places: Vec<(String, String)>, seed: u64) -> Arc<Self> {
        let addresses = places.iter().map(|(address, _)| address.clone()).collect();
        let (counts, is_harmful) = (Counts::default(), AtomicBool::new(false));
        let proxy = Arc::new(Self { counts, addresses, is_harmful, random: Mutex::new(Random(seed)) });
        for (address, broker) in places {
            let listener = TcpListener::bind(&address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
            let proxy = Arc::clone(&proxy);
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (proxy, broker) = (Arc::clone(&proxy), broker.clone());
                    tokio::spawn(async move {
                        if let Ok(broker) = TcpStream::connect(&broker).await {
                            proxy.pass(client, broker).await;
                        }
                    });
                }
            });
        }
        proxy
    }

    /// Where clients are to connect.
    pub fn bootstrap(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// Connections of before keep what they drew, for as long as there is harm.
    pub fn set_harmful(&self, is_harmful: bool) {
        self.is_harmful.store(is_harmful, Ordering::Relaxed);
    }

    pub fn harms(&self) -> usize {
        let Counts { cuts, stalls, swallowed, .. } = &self.counts;
        [cuts, stalls, swallowed].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    async fn pass(&self, client: TcpStream, broker: TcpStream) {
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let fate = Fate::draw(&mut self.random.lock().unwrap());
        let _ = (client.set_nodelay(true), broker.set_nodelay(true));
        let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) =
            (client.into_split(), broker.into_split());
        let of = |answers: bool| (fate.of_answers == answers).then_some((fate.after, fate.harm));
        // Whichever side or direction ends, the connection does.
        tokio::select! {
            biased;
            () = self.copy(&mut from_client, &mut to_broker, of(false)) => {}
            () = self.copy(&mut from_broker, &mut to_client, of(true)) => {}
        }
    }

    /// Bytes of one direction, up to its end or its harm.
    async fn copy(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        mut fate: Option<(usize, Harm)>,
    ) {
        let mut buffer = vec![0; 16 << 10];
        let mut is_swallowed = false;
        let counts = &self.counts;
        loop {
            let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
            let mut bytes = &buffer[..count];
            if let Some((left, harm)) = &mut fate {
                if *left >= count {
                    *left -= count;
                } else if self.is_harmful.load(Ordering::Relaxed) {
                    let (before, behind) = bytes.split_at(*left);
                    if to.write_all(before).await.is_err() {
                        return;
                    }
                    bytes = behind;
                    match *harm {
                        Harm::Cut => {
                            counts.cuts.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        Harm::Stall(time) => {
                            counts.stalls.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(time).await;
                        }
                        Harm::Swallow => {
                            counts.swallowed.fetch_add(1, Ordering::Relaxed);
                            is_swallowed = true;
                        }
                    }
                    fate = None;
                } else {
                    // All is well by now, or still: it is hit by the first byte of worse times.
                    *left = 0;
                }
            }
            if !is_swallowed && to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }
}
