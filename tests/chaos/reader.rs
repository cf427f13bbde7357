//! Who reads along.

use std::time::Duration;

use milena::{Consumer, ErrorKind};

use crate::judge::Seen;

const SECOND: Duration = Duration::from_secs(1);

/// A record's number is its value, with blanks behind it to make it larger.
pub fn number_of(value: Option<&[u8]>) -> usize {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.trim_end().parse().ok()).unwrap_or(usize::MAX)
}

/// From the beginning, while everything happens, up to the end that the logs have when all is quiet.
pub async fn read_along(mut consumer: Consumer, is_quiet: impl Fn() -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut has_end = false;
    loop {
        match tokio::time::timeout(SECOND, consumer.recv()).await {
            Ok(Ok(record)) => {
                let (partition, offset) = (record.partition(), record.offset());
                seen.push(Seen::Record { partition, offset, number: number_of(record.value()) });
            }
            Ok(Err(error)) if error.kind() == ErrorKind::NoMoreRecords => return seen,
            Ok(Err(error)) => {
                let partition = error.topic_partition().map(|tp| tp.partition);
                seen.push(Seen::Event { partition, what: format!("{:?}: {error}", error.kind()) });
            }
            // Nothing comes any more, or it is told where to end.
            Err(_) if is_quiet() && !has_end => {
                has_end = consumer.handle().stop_at_end().await.is_ok();
            }
            Err(_) => {}
        }
    }
}
