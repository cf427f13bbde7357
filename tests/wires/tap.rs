//! A stream that somebody listens to.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use milena::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

struct Tapped<F> {
    inner: Box<dyn Transport>,
    heard: F,
}

/// Calls `heard` with what each read brought, which it may change; pending: nothing yet.
pub fn tap<F>(inner: Box<dyn Transport>, heard: F) -> Box<dyn Transport>
where
    F: FnMut(Poll<&mut [u8]>) + Send + Unpin + 'static,
{
    Box::new(Tapped { inner, heard })
}

impl<F: FnMut(Poll<&mut [u8]>) + Unpin> AsyncRead for Tapped<F> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(cx, buf);
        (this.heard)(match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(&mut buf.filled_mut()[before..]),
        });
        outcome
    }
}

impl<F: Unpin> AsyncWrite for Tapped<F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
