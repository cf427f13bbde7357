//! A walk over the records of a batch, in place: nothing is copied, nothing allocated.
//!
//! ```text
//!  │ length ┊ attributes ┊ timestamp delta ┊ offset delta ┊ key length ┊ key ┊ value length ┊ value ┊ headers: count, … │
//!    varint   u8           varlong           varint         varint             varint                 varint
//! ```

/// One record, in place.
pub(super) struct RawRecord<'a> {
    /// All of it, its length included.
    pub(super) bytes: &'a [u8],
    /// What comes after the timestamp.
    pub(super) after_timestamp: &'a [u8],
    /// Milliseconds since the batch's base timestamp.
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    headers: Reader<'a>,
    header_count: i32,
}

impl<'a> RawRecord<'a> {
    /// Names and values, in order, duplicates included.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut reader = self.headers;
        (0..self.header_count).map_while(move |_| Some((reader.bytes()??, reader.bytes()?)))
    }
}

/// Visits `count` records, and checks that they fill `records` exactly. The error says what is wrong.
pub(super) fn walk<'a>(
    records: &'a [u8],
    count: i32,
    mut visit: impl FnMut(RawRecord<'a>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut reader = Reader(records);
    for _ in 0..count {
        let before = reader.0;
        let body = reader.length().and_then(|length| reader.take(length?));
        let body = body.ok_or("a record is longer than its batch")?;
        let bytes = &before[..before.len() - reader.0.len()];
        visit(record_of(bytes, body).ok_or("a record's fields do not fill it exactly")?)?;
    }
    if reader.0.is_empty() { Ok(()) } else { Err("there are more records in the batch than it claims") }
}

#[inline]
fn record_of<'a>(bytes: &'a [u8], body: &'a [u8]) -> Option<RawRecord<'a>> {
    let mut reader = Reader(body);
    reader.take(1)?; // attributes, unused
    let timestamp_delta = reader.varlong()?;
    let after_timestamp = reader.0;
    let offset_delta = reader.varint()?;
    let (key, value) = (reader.bytes()?, reader.bytes()?);
    let header_count = reader.varint().filter(|&count| count >= 0)?;
    let headers = reader;
    for _ in 0..header_count {
        reader.bytes()??; // a header's name is never null, its value may be
        reader.bytes()?;
    }
    let record = RawRecord { bytes, after_timestamp, timestamp_delta, offset_delta, key, value, headers, header_count };
    reader.0.is_empty().then_some(record)
}

/// A cursor that hands out only what is there.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A zigzag number of at most `MAX` bytes.
    #[inline]
    fn zigzag<const MAX: usize>(&mut self) -> Option<i64> {
        let (&first, rest) = self.0.split_first()?;
        if first & 0x80 == 0 {
            self.0 = rest;
            return Some(i64::from(first >> 1) ^ -i64::from(first & 1));
        }
        self.long_zigzag::<MAX>()
    }

    fn long_zigzag<const MAX: usize>(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (index, &byte) in self.0.iter().take(MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    #[inline]
    fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.zigzag::<5>()?).ok()
    }

    #[inline]
    fn varlong(&mut self) -> Option<i64> {
        self.zigzag::<10>()
    }

    /// A length; below zero it stands for null.
    #[inline]
    fn length(&mut self) -> Option<Option<usize>> {
        Some(usize::try_from(self.varint()?).ok())
    }

    #[inline]
    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.length()? {
            None => Some(None),
            Some(length) => Some(Some(self.take(length)?)),
        }
    }
}
