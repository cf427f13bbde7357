//! Why a stream is not trusted, in words that do not depend on who speaks TLS for us.

/// Why TLS was not agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The broker's certificate is signed by nobody whom the client trusts.
    UnknownIssuer,
    /// The broker's certificate has expired.
    Expired,
    /// The broker's certificate is not valid yet.
    NotYetValid,
    /// The broker's certificate is for another host.
    WrongHost,
    /// The broker's certificate has been revoked.
    Revoked,
    /// The broker's certificate is wrong in another way; the message says in which.
    BadCertificate,
    /// The broker wants a certificate of the client, and got none or one that it does not accept.
    ClientCertificate,
    /// The two have no version or cipher in common, or the peer does not speak TLS.
    Handshake,
}
