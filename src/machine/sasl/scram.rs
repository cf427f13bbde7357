//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither says it.
//!
//! ```text
//!   C: n,,n=user,r=NONCE[,tokenauth=true]                       first
//!   S: r=NONCE+SERVER'S,s=SALT,i=ITERATIONS
//!   C: c=biws,r=NONCE+SERVER'S,p=PROOF                          final
//!   S: v=SIGNATURE     or  e=ERROR
//!
//!   salted    = PBKDF2(password, salt, iterations)              the slow part: Derivation
//!   client key = HMAC(salted, "Client Key")     stored key = H(client key)
//!   message   = first without "n,," , server's first , final without ",p=…"
//!   proof     = client key XOR HMAC(stored key, message)
//!   signature = HMAC(HMAC(salted, "Server Key"), message)
//! ```

use std::ops::RangeInclusive;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::exchange::Step;
use super::failure::{Problem, tame};
use super::saslname;
use super::secret::Secret;
use crate::wire::error_code::ErrorCode;

/// Fewer would let an impostor who has a transcript guess passwords faster than RFC 7677 allows, more would let it
/// spend our time: a million take half a second.
pub const ITERATIONS: RangeInclusive<u64> = 4096..=1_000_000;

/// More is no salt and no nonce.
const LONGEST_MESSAGE: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
    /// For the example in RFC 5802; Kafka does not know it.
    #[cfg(test)]
    Sha1,
}

impl Hash {
    fn hmac(self, key: &[u8], message: &[u8]) -> Secret {
        // A MAC takes keys of any length.
        macro_rules! hmac {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(key)
                    .map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec())
                    .unwrap_or_default()
            };
        }
        Secret::new(match self {
            Self::Sha256 => hmac!(Sha256),
            Self::Sha512 => hmac!(Sha512),
            #[cfg(test)]
            Self::Sha1 => hmac!(sha1::Sha1),
        })
    }

    fn digest(self, message: &[u8]) -> Secret {
        Secret::new(match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
            #[cfg(test)]
            Self::Sha1 => sha1::Sha1::digest(message).to_vec(),
        })
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Secret {
        macro_rules! pbkdf2 {
            ($hash:ty, $length:literal) => {{
                let mut salted = vec![0; $length];
                // A MAC takes keys of any length.
                let _ = pbkdf2::pbkdf2::<Hmac<$hash>>(password, salt, iterations, &mut salted);
                salted
            }};
        }
        Secret::new(match self {
            Self::Sha256 => pbkdf2!(Sha256, 32),
            Self::Sha512 => pbkdf2!(Sha512, 64),
            #[cfg(test)]
            Self::Sha1 => pbkdf2!(sha1::Sha1, 20),
        })
    }
}

/// A salted password to be computed: [`run`](Self::run) takes up to half a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derivation {
    hash: Hash,
    password: Secret,
    salt: Vec<u8>,
    pub iterations: u32,
}

/// What [`Derivation::run`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived(Secret);

impl Derivation {
    pub fn run(&self) -> Derived {
        Derived(self.hash.salted(self.password.expose(), &self.salt, self.iterations))
    }
}

#[derive(Debug)]
enum State {
    First,
    /// The server's first message has come; what is needed once the password is hashed.
    Salting {
        server_first: String,
        nonce: String,
    },
    /// What the server has to prove.
    Final {
        signature: Secret,
    },
    Over,
}

/// A client's side of one exchange.
#[derive(Debug)]
pub struct Scram {
    hash: Hash,
    user: Arc<str>,
    password: Secret,
    /// `first` without the GS2 header.
    first_bare: String,
    nonce: String,
    state: State,
}

/// No channel binding, no authorization id.
const GS2_HEADER: &str = "n,,";

impl Scram {
    /// `nonce` has 18 bytes or more from a secure source. `is_token`: user and password are a delegation token's id and
    /// HMAC (KIP-48).
    pub fn new(hash: Hash, user: &str, password: &Secret, nonce: &[u8], is_token: bool) -> Result<Self, Problem> {
        if user.is_empty() || password.expose().is_empty() {
            return Err(Problem::Credentials("user and password must not be empty"));
        }
        if user.contains('\0') {
            return Err(Problem::Credentials("SCRAM has no way to say a NUL"));
        }
        Ok(Self::with_nonce(hash, user.into(), password.clone(), BASE64.encode(nonce), is_token))
    }

    fn with_nonce(hash: Hash, user: Arc<str>, password: Secret, nonce: String, is_token: bool) -> Self {
        let extension = if is_token { ",tokenauth=true" } else { "" };
        let first_bare = format!("n={},r={nonce}{extension}", saslname::escape(&user));
        Self { hash, user, password, first_bare, nonce, state: State::First }
    }

    pub fn hash(&self) -> Hash {
        self.hash
    }

    pub fn principal(&self) -> Arc<str> {
        Arc::clone(&self.user)
    }

    pub fn redact(&self, text: &str) -> String {
        self.password.redact(text)
    }

    pub fn first(&self) -> Secret {
        Secret::new(format!("{GS2_HEADER}{}", self.first_bare))
    }

    pub fn handle(&mut self, answer: &[u8]) -> Result<Step, Problem> {
        if answer.len() > LONGEST_MESSAGE {
            return Err(Problem::Invalid("a SCRAM message of more than 4 KiB"));
        }
        let answer = std::str::from_utf8(answer).map_err(|_| Problem::Invalid("a SCRAM message that is not UTF-8"))?;
        if let Some(error) = answer.strip_prefix("e=") {
            let message = tame(&self.redact(error)).into();
            return Err(Problem::Refused { code: ErrorCode::SASL_AUTHENTICATION_FAILED, message });
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.handle_first(answer).map(Step::Derive),
            State::Final { signature } => Self::handle_final(answer, &signature),
            State::Salting { .. } | State::Over => Err(Problem::Invalid("a SCRAM message after the last one")),
        }
    }

    fn handle_first(&mut self, answer: &str) -> Result<Derivation, Problem> {
        let mut fields = answer.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        // An `m=` would stand first, and means what we do not know.
        let nonce = field("r=").ok_or(Problem::Invalid("no nonce in SCRAM's first message"))?;
        let salt = field("s=").ok_or(Problem::Invalid("no salt in SCRAM's first message"))?;
        let iterations = field("i=").ok_or(Problem::Invalid("no iteration count in SCRAM's first message"))?;
        // Used as it came (librdkafka#4895), but it must be ours, with something of the server's behind it.
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(Problem::Invalid("SCRAM's nonce is not ours, or has nothing of the broker's"));
        }
        if !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Problem::Invalid("SCRAM's nonce is not printable"));
        }
        let salt = BASE64.decode(salt).map_err(|_| Problem::Invalid("SCRAM's salt is not Base64"))?;
        if salt.is_empty() {
            return Err(Problem::Invalid("SCRAM's salt is empty"));
        }
        if iterations.is_empty() || !iterations.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Problem::Invalid("SCRAM's iteration count is no number"));
        }
        // Digits alone: what does not fit is too large.
        let asked = iterations.parse().unwrap_or(u64::MAX);
        let iterations = u32::try_from(asked).ok().filter(|_| ITERATIONS.contains(&asked));
        let iterations = iterations.ok_or(Problem::Iterations { asked })?;
        self.state = State::Salting { server_first: answer.to_owned(), nonce: nonce.to_owned() };
        Ok(Derivation { hash: self.hash, password: self.password.clone(), salt, iterations })
    }

    pub fn handle_derived(&mut self, Derived(salted): Derived) -> Result<Secret, Problem> {
        let State::Salting { server_first, nonce } = std::mem::replace(&mut self.state, State::Over) else {
            return Err(Problem::Invalid("nothing was to be derived"));
        };
        let hash = self.hash;
        let bare = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let message = format!("{},{server_first},{bare}", self.first_bare);
        let client_key = hash.hmac(salted.expose(), b"Client Key");
        let stored_key = hash.digest(client_key.expose());
        let client_signature = hash.hmac(stored_key.expose(), message.as_bytes());
        let proof: Vec<u8> = client_key.expose().iter().zip(client_signature.expose()).map(|(a, b)| a ^ b).collect();
        let server_key = hash.hmac(salted.expose(), b"Server Key");
        self.state = State::Final { signature: hash.hmac(server_key.expose(), message.as_bytes()) };
        Ok(Secret::new(format!("{bare},p={}", BASE64.encode(Secret::new(proof).expose()))))
    }

    fn handle_final(answer: &str, expected: &Secret) -> Result<Step, Problem> {
        let verifier = answer.split(',').next().and_then(|field| field.strip_prefix("v="));
        let verifier = verifier.ok_or(Problem::Invalid("no signature in SCRAM's final message"))?;
        let verifier = BASE64.decode(verifier).map_err(|_| Problem::Invalid("SCRAM's signature is not Base64"))?;
        // In constant time: whoever guesses learns nothing from how long it takes.
        if verifier.ct_eq(expected.expose()).into() { Ok(Step::Over) } else { Err(Problem::Impostor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the client of an RFC's example and returns what it says last.
    fn play(hash: Hash, nonce: &str, server: [&str; 2]) -> (String, Result<Step, Problem>) {
        let mut scram = Scram::with_nonce(hash, "user".into(), Secret::new("pencil"), nonce.into(), false);
        assert_eq!(scram.first().expose(), format!("n,,n=user,r={nonce}").as_bytes());
        let Ok(Step::Derive(derivation)) = scram.handle(server[0].as_bytes()) else { panic!() };
        let last = scram.handle_derived(derivation.run()).unwrap();
        (String::from_utf8(last.expose().to_vec()).unwrap(), scram.handle(server[1].as_bytes()))
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let (last, end) = play(
            Hash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            [
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ],
        );
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(end, Ok(Step::Over));
    }

    /// Its hash is SHA-1, which Kafka does not offer: the steps are the same.
    #[test]
    fn the_example_of_rfc_5802() {
        let (last, end) = play(
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            [
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ],
        );
        assert_eq!(last, "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=");
        assert_eq!(end, Ok(Step::Over));
    }

    const SHA_512_PROOF: &str =
        "JJ4Vjr2VyfG9EZNbKEJcoh/mkm+cCV6h9ZkeAJj6Y6vgGqW8soBqa0FIy+H1XB80oKjgGpIVxjl1/ael8YSsIw==";
    const SHA_512_VERIFIER: &str =
        "v=Jxrh94DTlV/zVUKnKMQavV0od+lG0gna96qQl5AZ0x2cyne9QxzW82UYdaCYXnk5IM2tmf7/5J2dTcVly2xB8Q==";

    #[test]
    fn sha_512_against_a_server_computed_here() {
        let (last, end) = play(Hash::Sha512, "abc", ["r=abcdef,s=c2FsdA==,i=4096", "v=AAAA"]);
        // Of Python's hashlib and hmac.
        assert_eq!(last, format!("c=biws,r=abcdef,p={SHA_512_PROOF}"));
        assert_eq!(end, Err(Problem::Impostor));
        assert_eq!(play(Hash::Sha512, "abc", ["r=abcdef,s=c2FsdA==,i=4096", SHA_512_VERIFIER]).1, Ok(Step::Over));
    }

    #[test]
    fn a_delegation_token_says_that_it_is_one() {
        let scram = Scram::with_nonce(Hash::Sha256, "a,b=".into(), Secret::new("x"), "N".into(), true);
        assert_eq!(scram.first().expose(), b"n,,n=a=2Cb=3D,r=N,tokenauth=true");
    }

    #[test]
    fn hostile_first_messages() {
        let long = format!("r=NONCEx,s=AAAA,i=4096{}", ",x=".repeat(2000));
        let huge = format!("r=NONCEx,s=AAAA,i={}", "9".repeat(40));
        for (message, problem) in [
            ("", Problem::Invalid("no nonce in SCRAM's first message")),
            ("r=NONCEx", Problem::Invalid("no salt in SCRAM's first message")),
            ("r=NONCEx,s=AAAA", Problem::Invalid("no iteration count in SCRAM's first message")),
            ("s=AAAA,r=NONCEx,i=4096", Problem::Invalid("no nonce in SCRAM's first message")),
            ("m=ext,r=NONCEx,s=AAAA,i=4096", Problem::Invalid("no nonce in SCRAM's first message")),
            ("r=NONCE,s=AAAA,i=4096", Problem::Invalid("SCRAM's nonce is not ours, or has nothing of the broker's")),
            ("r=nonceX,s=AAAA,i=4096", Problem::Invalid("SCRAM's nonce is not ours, or has nothing of the broker's")),
            ("r=xNONCE,s=AAAA,i=4096", Problem::Invalid("SCRAM's nonce is not ours, or has nothing of the broker's")),
            ("r=NONCE\u{7f},s=AAAA,i=4096", Problem::Invalid("SCRAM's nonce is not printable")),
            ("r=NONCEü,s=AAAA,i=4096", Problem::Invalid("SCRAM's nonce is not printable")),
            ("r=NONCEx,s=,i=4096", Problem::Invalid("SCRAM's salt is empty")),
            ("r=NONCEx,s=A!,i=4096", Problem::Invalid("SCRAM's salt is not Base64")),
            ("r=NONCEx,s=AAAA,i=", Problem::Invalid("SCRAM's iteration count is no number")),
            ("r=NONCEx,s=AAAA,i=-1", Problem::Invalid("SCRAM's iteration count is no number")),
            ("r=NONCEx,s=AAAA,i=+4096", Problem::Invalid("SCRAM's iteration count is no number")),
            ("r=NONCEx,s=AAAA,i=4095", Problem::Iterations { asked: 4095 }),
            ("r=NONCEx,s=AAAA,i=1000001", Problem::Iterations { asked: 1_000_001 }),
            (&huge, Problem::Iterations { asked: u64::MAX }),
            (&long, Problem::Invalid("a SCRAM message of more than 4 KiB")),
            (
                "e=unknown-user\n",
                Problem::Refused { code: ErrorCode::SASL_AUTHENTICATION_FAILED, message: "unknown-user ".into() },
            ),
        ] {
            let mut scram = Scram::with_nonce(Hash::Sha256, "u".into(), Secret::new("x"), "NONCE".into(), false);
            assert_eq!(scram.handle(message.as_bytes()), Err(problem), "{message}");
        }
        let mut scram = Scram::with_nonce(Hash::Sha256, "u".into(), Secret::new("x"), "NONCE".into(), false);
        assert_eq!(scram.handle(b"r=\xff"), Err(Problem::Invalid("a SCRAM message that is not UTF-8")));
    }

    #[test]
    fn hostile_final_messages() {
        for (message, problem) in [
            ("", Problem::Invalid("no signature in SCRAM's final message")),
            ("r=NONCEx,s=AAAA,i=4096", Problem::Invalid("no signature in SCRAM's final message")),
            ("v=!", Problem::Invalid("SCRAM's signature is not Base64")),
            ("v=", Problem::Impostor),
            ("v=AAAA", Problem::Impostor),
            (
                "e=invalid-proof",
                Problem::Refused { code: ErrorCode::SASL_AUTHENTICATION_FAILED, message: "invalid-proof".into() },
            ),
        ] {
            let (_, end) = play(Hash::Sha256, "NONCE", ["r=NONCEx,s=AAAA,i=4096", message]);
            assert_eq!(end, Err(problem), "{message}");
        }
    }

    #[test]
    fn a_message_out_of_turn_is_an_error() {
        let mut scram = Scram::with_nonce(Hash::Sha256, "u".into(), Secret::new("x"), "NONCE".into(), false);
        let Ok(Step::Derive(derivation)) = scram.handle(b"r=NONCEx,s=AAAA,i=4096") else { panic!() };
        assert!(scram.handle(b"v=AAAA").is_err(), "the proof was not sent yet");
        assert!(scram.handle_derived(derivation.run()).is_err(), "and it is over");
    }
}
