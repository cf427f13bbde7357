//! Moves bytes between one stream and one [`Connection`]. Everything that decides is in the machine.
//!
//! Both halves of the stream are polled together and a whole write is never awaited: a broker that pushes back must
//! still be read. Partial frames live here, in buffers, never in a future, so dropping whoever polls loses nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use super::connector::Transport;
use super::lane::Network;
use super::runtime::{Runtime, Timer};
use super::security::perform;
use crate::machine::connection::{Config, Connection, Event, Outgoing, Token};
use crate::machine::sasl::{Done, Login};

/// Read ahead by so much while no large frame is under way: one system call takes several small answers.
const READ_AHEAD: usize = 8 * 1024;

/// Pieces in one vectored write; what Linux takes at most is 1024.
const MAX_SLICES: usize = 64;

pub struct Driver {
    io: Box<dyn Transport>,
    machine: Connection,
    /// What was read and is not a whole frame yet:
    /// ```text
    ///   | size i32 | frame ....          |
    ///   '--- inbox: what has arrived --'
    /// ```
    inbox: BytesMut,
    /// The size of the frame at the front of the inbox, once its prefix was accepted.
    frame_size: Option<usize>,
    /// When that was.
    begun: Option<Instant>,
    outbox: VecDeque<Bytes>,
    network: Arc<Network>,
    /// What the login waits for.
    work: Option<Pin<Box<dyn Future<Output = Done> + Send>>>,
    runtime: Runtime,
    timer: Timer,
}

impl Driver {
    pub fn new(network: &Arc<Network>, io: Box<dyn Transport>, config: Config) -> Self {
        let runtime = &network.runtime;
        let mut machine = Connection::new(runtime.now(), config);
        if let Some(sasl) = &network.security.sasl {
            machine.require_login(Login::new(sasl.mechanism(), runtime.random()));
        }
        Self {
            io,
            machine,
            network: Arc::clone(network),
            work: None,
            inbox: BytesMut::new(),
            frame_size: None,
            begun: None,
            outbox: VecDeque::new(),
            runtime: runtime.clone(),
            timer: Timer::new(runtime),
        }
    }

    pub fn send(&mut self, token: Token, request: Box<dyn Outgoing>, deadline: Instant) {
        self.machine.send(self.runtime.now(), token, request, deadline);
    }

    pub fn mute(&mut self, until: Instant) {
        self.machine.mute(until);
    }

    /// When the first bytes of the last frame came.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// The next event; [`Event::Dead`] is the last.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.machine.poll_event() {
                return Poll::Ready(event);
            }
            if self.machine.is_dead() {
                return Poll::Pending;
            }
            self.poll_work(cx);
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                // What the broker said last may explain it, and may be an answer: read on until the stream ends too.
                let said = self.drain(cx);
                self.lost(&said.filter(|said| self.network.security.cause(said).is_some()).unwrap_or(error));
                continue;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => self.machine.handle_lost(None),
                Poll::Ready(Ok(_)) => self.take_frames(),
                Poll::Ready(Err(error)) => self.lost(&error),
                Poll::Pending => {
                    // Sent is an event too.
                    if let Some(event) = self.machine.poll_event() {
                        return Poll::Ready(event);
                    }
                    ready!(self.timer.poll(cx, self.machine.poll_timeout()));
                    self.machine.handle_timeout(self.runtime.now());
                }
            }
        }
    }

    fn lost(&mut self, error: &std::io::Error) {
        match self.network.security.cause(error) {
            Some(cause) => self.machine.handle_broken(cause),
            None => self.machine.handle_lost(Some(error)),
        }
    }

    /// Does what the login asks for, if it asks.
    fn poll_work(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(work) = &mut self.work {
                let Poll::Ready(done) = work.as_mut().poll(cx) else { return };
                self.work = None;
                self.machine.handle_work(done);
            }
            let (Some(work), Some(sasl)) = (self.machine.poll_work(), &self.network.security.sasl) else { return };
            self.work = Some(Box::pin(perform(Arc::clone(sasl), self.runtime.clone(), work)));
        }
    }

    /// Writes until the stream pushes back (`Pending`), nothing is left, or it broke.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        loop {
            // A frame is taken from the machine only when its turn has come: until then it counts as not sent.
            while self.outbox.len() < MAX_SLICES {
                let Some(frame) = self.machine.poll_transmit() else { break };
                self.outbox.extend(frame.segments);
            }
            if self.outbox.is_empty() {
                return Pin::new(&mut self.io).poll_flush(cx);
            }
            let mut written = ready!(self.poll_write_some(cx))?;
            if written == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            while let Some(front) = self.outbox.front_mut() {
                if written < front.len() {
                    front.advance(written);
                    break;
                }
                written -= front.len();
                self.outbox.pop_front();
            }
        }
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        // A small request is one piece, for which there is a shorter way.
        if let [only] = self.outbox.as_slices().0
            && self.outbox.len() == 1
        {
            return Pin::new(&mut self.io).poll_write(cx, only);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.outbox) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count])
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let wanted = match self.frame_size {
            // Exactly to the end of the frame: a large one gets an allocation of its own, and nothing behind it.
            Some(size) => (4 + size).saturating_sub(self.inbox.len()),
            None => READ_AHEAD,
        };
        self.inbox.reserve(wanted);
        let mut limited = (&mut self.inbox).limit(wanted);
        pin!(self.io.read_buf(&mut limited)).poll(cx)
    }

    /// Hands every whole frame of the inbox to the machine.
    fn take_frames(&mut self) {
        let now = self.runtime.now();
        loop {
            let size = match self.frame_size {
                Some(size) => size,
                None => {
                    let Some(prefix) = self.inbox.first_chunk::<4>() else { return };
                    let Some(size) = self.machine.handle_size(*prefix) else { return };
                    self.begun = Some(now);
                    *self.frame_size.insert(size)
                }
            };
            if self.inbox.len() < 4 + size {
                return;
            }
            let mut frame = self.inbox.split_to(4 + size);
            frame.advance(4);
            self.frame_size = None;
            self.machine.handle_frame(now, frame.freeze());
        }
    }

    /// Takes what has already arrived, after a write failed; and the error behind it.
    fn drain(&mut self, cx: &mut Context<'_>) -> Option<std::io::Error> {
        loop {
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) if !self.machine.is_dead() => self.take_frames(),
                Poll::Ready(Err(error)) => return Some(error),
                _ => return None,
            }
        }
    }
}

impl Drop for Driver {
    /// Best effort: a stream that can be shut down at once is, so that the broker hears of it.
    fn drop(&mut self) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(&mut self.io).poll_shutdown(&mut cx);
    }
}
