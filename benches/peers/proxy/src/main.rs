//! Stands before a broker and holds back every byte for half a round trip, each way: `proxy PORT=UPSTREAM=MICROSECONDS...`
//!
//! It takes what comes at once, as a network with a large window would, up to 64 MiB each way of a connection. A line on
//! its standard input is answered with the bytes that each port has passed on so far, as JSON; it ends with the input.

use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

const CHUNK: usize = 64 << 10;
const CHUNKS: usize = 1024;

struct Listener {
    port: u16,
    upstream: String,
    delay: Duration,
    /// Bytes to the broker, bytes from it.
    passed: [AtomicU64; 2],
}

impl Listener {
    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split('=');
        let port = parts.next()?.parse().ok()?;
        let upstream = parts.next()?.to_string();
        let round_trip = Duration::from_micros(parts.next()?.parse().ok()?);
        Some(Self { port, upstream, delay: round_trip / 2, passed: Default::default() })
    }

    fn serve(self: Arc<Self>, socket: TcpListener) {
        for client in socket.incoming() {
            let (listener, client) = (Arc::clone(&self), client.expect("a connection"));
            // A broker that is not there is a connection that ends.
            thread::spawn(move || listener.connect(client));
        }
    }

    fn connect(self: Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let broker = TcpStream::connect(&self.upstream)?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        for (way, from, to) in [(0, client.try_clone()?, broker.try_clone()?), (1, broker, client)] {
            let (filled, due) = sync_channel(CHUNKS);
            let (empty, emptied) = channel();
            let (listener, source) = (Arc::clone(&self), from);
            thread::spawn(move || read(source, &filled, &emptied, listener.delay));
            let listener = Arc::clone(&self);
            thread::spawn(move || {
                write(to, &due, |chunk| {
                    listener.passed[way].fetch_add(chunk.1 as u64, Ordering::Relaxed);
                    // The reader may have ended.
                    let _ = empty.send(chunk.0);
                })
            });
        }
        Ok(())
    }
}

type Chunk = (Instant, Vec<u8>, usize);

fn read(mut from: TcpStream, filled: &SyncSender<Chunk>, emptied: &Receiver<Vec<u8>>, delay: Duration) {
    loop {
        let mut chunk = emptied.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if filled.send((Instant::now() + delay, chunk, length)).is_err() {
                    return;
                }
            }
        }
    }
}

fn write(mut to: TcpStream, due: &Receiver<Chunk>, mut written: impl FnMut((Vec<u8>, usize))) {
    while let Ok((at, chunk, length)) = due.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk[..length]).is_err() {
            break;
        }
        written((chunk, length));
    }
    // The other side has ended: so does this one, both ways.
    let _ = to.shutdown(Shutdown::Both);
}

fn main() {
    let listeners: Vec<Arc<Listener>> = std::env::args()
        .skip(1)
        .map(|word| {
            Arc::new(Listener::parse(&word).unwrap_or_else(|| panic!("not PORT=UPSTREAM=MICROSECONDS: {word}")))
        })
        .collect();
    for listener in &listeners {
        let socket = TcpListener::bind(("127.0.0.1", listener.port)).expect("the port is taken");
        let listener = Arc::clone(listener);
        thread::spawn(move || listener.serve(socket));
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line.expect("standard input");
        let counts: Vec<String> = listeners
            .iter()
            .map(|listener| {
                let [up, down] = [0, 1].map(|way| listener.passed[way].load(Ordering::Relaxed));
                format!("\"{}\":[{up},{down}]", listener.port)
            })
            .collect();
        println!("{{{}}}", counts.join(","));
    }
}
