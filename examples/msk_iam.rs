//! Tokens for Amazon MSK with IAM, without an SDK: an URL that is signed with the account's key (SigV4) is the token.
//!
//! ```text
//! AWS_REGION=eu-west-1 AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... \
//!     KAFKA_BOOTSTRAP=b-1.cluster.kafka.eu-west-1.amazonaws.com:9098 cargo run --example msk_iam
//! ```
//!
//! Without `KAFKA_BOOTSTRAP` it shows what would be signed, for a made-up account.
#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]
#![allow(clippy::disallowed_methods, reason = "an example may read the wall clock")]

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use milena::{Client, ProviderError, Providing, Sasl, Tls, Token, TokenProvider};
use sha2::{Digest as _, Sha256};

/// Who signs. A real program would ask its container's or machine's metadata service for keys that last hours.
struct MskIam {
    region: String,
    key_id: String,
    secret: String,
    session_token: Option<String>,
}

/// The longest that AWS allows. A session ends with its token, and the client authenticates anew before.
const SECONDS: u32 = 900;

impl MskIam {
    fn from_environment() -> Result<Self, ProviderError> {
        let variable = |name: &str| std::env::var(name).map_err(|_| ProviderError::new(format!("{name} is not set")));
        Ok(Self {
            region: variable("AWS_REGION")?,
            key_id: variable("AWS_ACCESS_KEY_ID")?,
            secret: variable("AWS_SECRET_ACCESS_KEY")?,
            session_token: variable("AWS_SESSION_TOKEN").ok(),
        })
    }

    fn signed_url(&self, now: SystemTime) -> String {
        let Self { region, key_id, session_token, .. } = self;
        let (date, time) = date_and_time(now);
        let host = format!("kafka.{region}.amazonaws.com");
        let scope = format!("{date}/{region}/kafka-cluster/aws4_request");
        // In the order of the alphabet, as they are signed.
        let mut query = format!(
            "Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}\
             &X-Amz-Date={date}T{time}Z&X-Amz-Expires={SECONDS}",
            encode(&format!("{key_id}/{scope}"))
        );
        if let Some(token) = session_token {
            _ = write!(query, "&X-Amz-Security-Token={}", encode(token));
        }
        query += "&X-Amz-SignedHeaders=host";
        let canonical = format!("GET\n/\n{query}\nhost:{host}\n\nhost\n{}", hex(&Sha256::digest(b"")));
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{date}T{time}Z\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let key = signing_key(&self.secret, &date, region, "kafka-cluster");
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        format!("https://{host}/?{query}&X-Amz-Signature={signature}&User-Agent=milena")
    }
}

impl TokenProvider for MskIam {
    fn token(&self) -> Providing<'_, Token> {
        let token = URL_SAFE_NO_PAD.encode(self.signed_url(SystemTime::now()));
        Box::pin(std::future::ready(Ok(Token::new(token).principal(self.key_id.as_str()))))
    }
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> Vec<u8> {
    let start = format!("AWS4{secret}").into_bytes();
    [date, region, service, "aws4_request"].iter().fold(start, |key, part| hmac(&key, part.as_bytes()))
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("a MAC takes keys of any length");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text + &char::from(byte).to_string(),
        _ => text + &format!("%{byte:02X}"),
    })
}

/// `20261121` and `150000`, of UTC.
fn date_and_time(now: SystemTime) -> (String, String) {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Days to a date, after Howard Hinnant's `civil_from_days`: years begin in March, eras have 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    (format!("{year:04}{month:02}{day:02}"), format!("{hour:02}{minute:02}{second:02}"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // AWS's own example of a signing key, so that a slip shows before a broker refuses it.
    let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam");
    assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    assert_eq!(date_and_time(UNIX_EPOCH + std::time::Duration::from_secs(951_782_400)).0, "20000229");

    let Ok(bootstrap) = std::env::var("KAFKA_BOOTSTRAP") else {
        let example = MskIam {
            region: "eu-west-1".into(),
            key_id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        println!(
            "KAFKA_BOOTSTRAP is not set. A token would be this, in Base64:\n{}",
            example.signed_url(SystemTime::now())
        );
        return Ok(());
    };
    let sasl = Sasl::oauthbearer(MskIam::from_environment()?);
    let client = Client::builder(bootstrap.split(',')).tls(Tls::new()).sasl(sasl).connect().await?;
    for topic in client.admin().list_topics().await? {
        println!("{topic:?}");
    }
    Ok(())
}
