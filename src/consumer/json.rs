//! Keys and values of JSON, by serde.

use std::any::type_name;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::record::{BorrowedRecord, ConsumerRecord};
use crate::error::{Error, ErrorKind};

impl ConsumerRecord {
    /// The value, as JSON. A record without one reads as `null`: so an `Option` is `None` for a tombstone, and anything else
    /// an error. Feature `json`. (kafka-python: a `value_deserializer` of `json.loads`.)
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # producer.send(milena::Record::to("orders").value(r#"{"state":"paid"}"#)).await?;
    /// # producer.send(milena::Record::to("orders").key("42")).await?;
    /// # let mut consumer = client.consumer().auto_offset_reset(milena::OffsetReset::Earliest).build()?;
    /// # consumer.assign([("orders", 0)])?;
    /// use std::collections::BTreeMap;
    ///
    /// let order: BTreeMap<String, String> = consumer.recv().await?.json()?;
    /// assert_eq!(order["state"], "paid");
    /// let deleted: Option<BTreeMap<String, String>> = consumer.recv().await?.json()?;
    /// assert_eq!(deleted, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Serialization`](ErrorKind::Serialization): what serde says of the value, and which record it is in.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.borrow().json()
    }

    /// The key, as [`json`](Self::json) reads the value. Feature `json`. (kafka-python: `key_deserializer`.)
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn json_key<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.borrow().json_key()
    }
}

impl<'a> BorrowedRecord<'a> {
    /// As [`ConsumerRecord::json`]; what is read may borrow from the batch.
    ///
    /// # Errors
    /// As [`ConsumerRecord::json`].
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        self.read("value", self.value())
    }

    /// As [`ConsumerRecord::json_key`]; what is read may borrow from the batch.
    ///
    /// # Errors
    /// As [`ConsumerRecord::json`].
    pub fn json_key<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        self.read("key", self.key())
    }

    fn read<T: Deserialize<'a>>(&self, what: &str, bytes: Option<&'a [u8]>) -> Result<T, Error> {
        serde_json::from_slice(bytes.unwrap_or(b"null")).map_err(|error| {
            let (tp, offset, of) = (self.topic_partition(), self.offset(), type_name::<T>());
            let message = format!("the {what} of the record at offset {offset} of {tp} is no {of} in JSON: {error}");
            Error::new(ErrorKind::Serialization, message).with_source(error).with_partition(tp.clone())
        })
    }
}
