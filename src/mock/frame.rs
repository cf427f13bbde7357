//! Frames: four bytes of length, a header, a message. Answers are lists of segments, so that fetched batches are not
//! copied.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::api::Api;
use super::by_topic_id;
use crate::Transport;

/// Real brokers refuse more than this (`socket.request.max.bytes`); `kafka-protocol` must not see it.
const LARGEST_REQUEST: usize = 100 << 20;
/// What is read ahead of a frame.
const READ_AHEAD: usize = 16 << 10;
const LENGTH: usize = 4;

/// Reads the next frame, without its length. `None` when the peer has closed the connection between two frames or in
/// one. Nothing is lost if it is dropped before it is ready: the buffer has what has come.
pub(super) async fn read(stream: &mut impl Transport, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    loop {
        if let Some(frame) = take(buffer)? {
            return Ok(Some(frame));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The first frame, if it is there whole; room for what is missing otherwise.
fn take(buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
    let Some(length) = buffer.first_chunk::<LENGTH>() else {
        // Small frames share a block: what is produced stays in the log as a slice of it, and keeps it alive.
        if buffer.capacity() - buffer.len() < READ_AHEAD / 16 {
            buffer.reserve(READ_AHEAD);
        }
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes(*length)).ok().filter(|length| *length <= LARGEST_REQUEST);
    let length =
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the length of a frame is out of range"))?;
    if buffer.len() < LENGTH + length {
        // A large frame has a block of its own, of its size.
        buffer.reserve(LENGTH + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(LENGTH);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The frames that are whole in `bytes`, one after the other, without their lengths.
pub(super) fn whole_frames(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<LENGTH>()?;
        let (frame, rest) = rest.split_at_checked(usize::try_from(i32::from_be_bytes(*length)).ok()?)?;
        bytes = rest;
        Some(frame)
    })
}

/// Reads what has come already, up to `limit` bytes in all, without waiting for more.
pub(super) async fn read_what_is_there(stream: &mut impl Transport, buffer: &mut BytesMut, limit: usize) {
    buffer.reserve(limit.saturating_sub(buffer.len()));
    while buffer.len() < limit {
        let read = poll_fn(|context| Poll::Ready(pin!(stream.read_buf(buffer)).poll(context))).await;
        // An end or an error comes again at the next read.
        if !matches!(read, Poll::Ready(Ok(1..))) {
            return;
        }
    }
}

/// A decoded header, with what follows it.
pub(super) struct Received {
    pub(super) api: Api,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
    pub(super) client_id: Option<String>,
    pub(super) body: Bytes,
}

impl Received {
    /// Decodes the header of a frame. The error says what is wrong with it.
    pub(super) fn parse(mut frame: Bytes) -> Result<Self, String> {
        let (Some(key), Some(version)) = (number(&frame, 0), number(&frame, 2)) else {
            return Err("a frame without a request header".to_owned());
        };
        let api = Api::from_key(key).ok_or_else(|| format!("the mock does not serve API {key}"))?;
        let header = RequestHeader::decode(&mut frame, header_version(api, version))
            .map_err(|error| format!("the header of a {api} request cannot be decoded: {error}"))?;
        Ok(Self {
            api,
            version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.map(|id| id.to_string()),
            body: frame,
        })
    }

    /// Decodes the body. Afterwards `body` has what was too much.
    pub(super) fn decode<R: Request>(&mut self) -> Result<R, String> {
        let (body, version) = by_topic_id::named(self.api, self.version, std::mem::take(&mut self.body));
        self.body = body;
        R::decode(&mut self.body, version)
            .map_err(|error| format!("a {} v{} request cannot be decoded: {error}", self.api, self.version))
    }
}

fn number(frame: &[u8], at: usize) -> Option<i16> {
    Some(i16::from_be_bytes(*frame.get(at..)?.first_chunk()?))
}

fn header_version(api: Api, version: i16) -> i16 {
    // An ApiVersions version that is too new still has a header, and gets an answer (KIP-511).
    let key = kafka_protocol::messages::ApiKey::try_from(api.key());
    key.map_or(1, |key| key.request_header_version(version))
}

/// A response body: segments in the order in which they go out.
#[derive(Debug, Default)]
pub(super) struct Body(pub(super) Vec<Bytes>);

impl Body {
    /// The message alone. Panics on fields that this version does not have: a bug of the mock, which tests should see.
    pub(super) fn encode<M: Encodable>(message: &M, version: i16) -> Self {
        let mut bytes = BytesMut::with_capacity(message.compute_size(version).unwrap_or(0));
        encode(message, &mut bytes, version);
        Self(vec![bytes.freeze()])
    }
}

/// Appends a message to `bytes`; panics as [`Body::encode`] does.
pub(super) fn encode<M: Encodable>(message: &M, bytes: &mut BytesMut, version: i16) {
    if let Err(error) = message.encode(bytes, version) {
        panic!("the mock made a response that version {version} cannot say: {error}");
    }
}

/// A whole frame, ready to be sent.
#[derive(Debug)]
pub(super) struct Frame(VecDeque<Bytes>);

impl Frame {
    /// Bytes before the body's first that a fault must leave alone to be seen as corruption: length and correlation id.
    pub(super) const PREFIX: usize = LENGTH + 4;

    pub(super) fn new(header_version: i16, correlation_id: i32, body: Body) -> Self {
        let mut head = BytesMut::with_capacity(16);
        head.put_i32(0);
        encode(&ResponseHeader::default().with_correlation_id(correlation_id), &mut head, header_version);
        let length = head.len() - LENGTH + body.0.iter().map(Bytes::len).sum::<usize>();
        head[..LENGTH].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        let mut segments = VecDeque::with_capacity(body.0.len() + 1);
        segments.push_back(head.freeze());
        segments.extend(body.0.into_iter().filter(|segment| !segment.is_empty()));
        Self(segments)
    }

    /// The frame in one piece, to be tampered with.
    pub(super) fn flatten(self) -> BytesMut {
        self.0.iter().fold(BytesMut::new(), |mut bytes, segment| {
            bytes.extend_from_slice(segment);
            bytes
        })
    }

    pub(super) async fn write(mut self, stream: &mut impl Transport) -> io::Result<()> {
        stream.write_all_buf(&mut self).await?;
        stream.flush().await
    }
}

impl From<BytesMut> for Frame {
    fn from(bytes: BytesMut) -> Self {
        Self(VecDeque::from([bytes.freeze()]))
    }
}

impl Buf for Frame {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |segment| segment)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.0);
        filled.map(|(slice, segment)| *slice = IoSlice::new(segment)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut()
            && count > 0
        {
            let step = count.min(first.len());
            first.advance(step);
            count -= step;
            if first.is_empty() {
                self.0.pop_front();
            }
        }
        assert_eq!(count, 0, "more was written than there is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(frames: &[usize]) -> Vec<Bytes> {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut server: Box<dyn Transport> = Box::new(server);
        for (index, length) in frames.iter().enumerate() {
            let mut frame = BytesMut::new();
            frame.put_u32(*length as u32);
            frame.put_bytes(index as u8, *length);
            client.write_all_buf(&mut frame).await.unwrap();
        }
        drop(client);
        let (mut buffer, mut read_frames) = (BytesMut::new(), Vec::new());
        while let Some(frame) = read(&mut server, &mut buffer).await.unwrap() {
            read_frames.push(frame);
        }
        read_frames
    }

    #[tokio::test]
    async fn frames_of_all_sizes_are_read() {
        let lengths = [0, 1, 3, 4, 1000, 15_000, 16_384, 17_000, 100, 300_000, 5];
        let frames = read_all(&lengths).await;
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), lengths);
        assert!(frames.iter().zip(0..).all(|(frame, index)| frame.iter().all(|byte| *byte == index)));
    }

    #[tokio::test]
    async fn small_frames_share_their_memory() {
        let frames = read_all(&[100; 100]).await;
        let adjacent =
            frames.windows(2).filter(|two| two[0].as_ptr() as usize + 104 == two[1].as_ptr() as usize).count();
        assert!(adjacent >= 95, "{adjacent} of 99 frames follow the one before them in memory");
    }

    #[test]
    fn a_frame_is_written_from_its_segments() {
        let body = Body(vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")]);
        let mut frame = Frame::new(1, 7, body);
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(frame.chunks_vectored(&mut slices), 3);
        assert_eq!((frame.remaining(), &slices[2][..]), (14, &b"cde"[..]));
        frame.advance(10);
        assert_eq!(frame.chunk(), b"b");
        frame.advance(2);
        assert_eq!((frame.chunk(), frame.remaining()), (&b"de"[..], 2));
        frame.advance(2);
        assert!(!frame.has_remaining() && frame.chunk().is_empty());
    }
}
