//! SCRAM from the server's side (RFC 5802, 3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

#[derive(Clone, Copy, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hash(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
                mac.chain_update(message).finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mac = Hmac::<Sha512>::new_from_slice(key).expect("any length is a key");
                mac.chain_update(message).finalize().into_bytes().to_vec()
            }
        }
    }

    /// `Hi(str, salt, i)`: `U1 XOR U2 XOR … Ui`.
    fn hi(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut u = self.hmac(password, &[salt, &[0, 0, 0, 1]].concat());
        let mut result = u.clone();
        for _ in 1..iterations {
            u = self.hmac(password, &u);
            result.iter_mut().zip(&u).for_each(|(a, b)| *a ^= b);
        }
        result
    }
}

/// An exchange whose first two messages are said.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) hash: Hash,
    pub(super) user: String,
    salt: Vec<u8>,
    iterations: u32,
    nonce: String,
    /// `client-first-message-bare , server-first-message`
    so_far: String,
}

impl Server {
    /// Takes the client's first message: `n,,n=USER,r=NONCE`.
    pub(super) fn first(hash: Hash, message: &[u8], nonce: &str, iterations: u32) -> Result<(Self, String), String> {
        let invalid = || "Invalid SCRAM client first message format".to_owned();
        let message = std::str::from_utf8(message).map_err(|_| invalid())?;
        let bare = message.strip_prefix("n,,").ok_or_else(invalid)?;
        let (user, rest) = bare.strip_prefix("n=").and_then(|rest| rest.split_once(",r=")).ok_or_else(invalid)?;
        let client_nonce = rest.split(',').next().filter(|nonce| !nonce.is_empty()).ok_or_else(invalid)?;
        let user = user.replace("=2C", ",").replace("=3D", "=");
        let salt = format!("the salt of {user}").into_bytes();
        let nonce = format!("{client_nonce}{nonce}");
        let answer = format!("r={nonce},s={},i={iterations}", BASE64.encode(&salt));
        let so_far = format!("{bare},{answer}");
        Ok((Self { hash, user, salt, iterations, nonce, so_far }, answer))
    }

    /// The password as it is kept.
    pub(super) fn salted(&self, password: &str) -> Vec<u8> {
        self.hash.hi(password.as_bytes(), &self.salt, self.iterations)
    }

    /// Takes the client's final message, `c=biws,r=NONCE,p=PROOF`; `None` if it does not prove the password.
    pub(super) fn last(&self, message: &[u8], salted: &[u8]) -> Option<String> {
        let message = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = message.split_once(",p=")?;
        if without_proof != format!("c=biws,r={}", self.nonce) {
            return None;
        }
        let stored = self.hash.hash(&self.hash.hmac(salted, b"Client Key"));
        let signed = format!("{},{without_proof}", self.so_far);
        let signature = self.hash.hmac(&stored, signed.as_bytes());
        let proof = BASE64.decode(proof).ok()?;
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if proof.len() != signature.len() || self.hash.hash(&key) != stored {
            return None;
        }
        let server_key = self.hash.hmac(salted, b"Server Key");
        Some(format!("v={}", BASE64.encode(self.hash.hmac(&server_key, signed.as_bytes()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, 3, from the server's side.
    #[test]
    fn the_example_of_rfc_7677() {
        let server = Server {
            hash: Hash::Sha256,
            user: "user".into(),
            salt: BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            iterations: 4096,
            nonce: "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
            so_far: "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                .into(),
        };
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let [pencil, pencils] = ["pencil", "pencils"].map(|password| server.salted(password));
        let answer = server.last(last, &pencil);
        assert_eq!(answer.as_deref(), Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert_eq!(server.last(last, &pencils), None);
        assert_eq!(server.last(&last[..last.len() - 4], &pencil), None);
    }
}
