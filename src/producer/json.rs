//! Keys and values as JSON, by serde.

use std::any::type_name;

use serde::Serialize;

use super::record::Record;
use crate::error::{Error, ErrorKind};

impl<'a> Record<'a> {
    /// The value as JSON, without white space. Feature `json`. (kafka-python: a `value_serializer` of `json.dumps`.)
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena::Record;
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// let order = std::collections::BTreeMap::from([("item", "book"), ("state", "paid")]);
    /// producer.send(Record::to("orders").key("42").json(&order)?).await?;
    /// let value = cluster.log("orders", 0)[0].value.clone();
    /// assert_eq!(value.as_deref(), Some(&br#"{"item":"book","state":"paid"}"#[..]));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Serialization`](ErrorKind::Serialization): what serde says of the value, as of a map whose keys are no strings.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, Error> {
        let json = to_json("value", self.topic_name(), value)?;
        Ok(self.value(json))
    }

    /// The key as JSON, as [`json`](Self::json) does for the value. What serde writes is compared byte by byte: a map
    /// without an order makes a different key each time. Feature `json`. (kafka-python: `key_serializer`.)
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn json_key<T: Serialize + ?Sized>(self, key: &T) -> Result<Self, Error> {
        let json = to_json("key", self.topic_name(), key)?;
        Ok(self.key(json))
    }
}

fn to_json<T: Serialize + ?Sized>(what: &str, topic: &str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| {
        let of = type_name::<T>();
        let message =
            format!("the {what} of a record for topic `{topic}`, of type {of}, is not to be had as JSON: {error}");
        Error::new(ErrorKind::Serialization, message).with_source(error)
    })
}
