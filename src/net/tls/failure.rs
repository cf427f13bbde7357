//! What rustls says, in our words.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use crate::machine::connection::Cause;
use crate::machine::trust::TlsFailure;

/// Why TLS failed, if it did: an error that says something about the peer, not a stream that broke.
pub fn cause(error: &io::Error, host: Option<&str>) -> Option<Cause> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let (failure, hint) = classify(error);
    let to = host.map(|host| format!(" with {host}")).unwrap_or_default();
    Some(Cause::Untrusted { failure, message: format!("TLS{to} failed: {error}{hint}").into() })
}

fn classify(error: &Error) -> (TlsFailure, &'static str) {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    match error {
        Error::InvalidCertificate(wrong) => match wrong {
            Certificate::UnknownIssuer => {
                (TlsFailure::UnknownIssuer, " (give the certificate of its issuer to Tls::ca_file)")
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => (TlsFailure::Expired, ""),
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => (TlsFailure::NotYetValid, ""),
            Certificate::Revoked => (TlsFailure::Revoked, ""),
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => (TlsFailure::WrongHost, ""),
            _ => (TlsFailure::BadCertificate, ""),
        },
        Error::AlertReceived(
            Alert::NoCertificate
            | Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => (
            TlsFailure::ClientCertificate,
            " (the broker wants another certificate of the client than it has: see Tls::client_certificate_files)",
        ),
        Error::InvalidMessage(_) => (TlsFailure::Handshake, " (does this listener speak TLS?)"),
        _ => (TlsFailure::Handshake, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_apart() {
        for (error, failure) in [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), TlsFailure::UnknownIssuer),
            (Error::InvalidCertificate(CertificateError::Expired), TlsFailure::Expired),
            (Error::InvalidCertificate(CertificateError::NotValidYet), TlsFailure::NotYetValid),
            (Error::InvalidCertificate(CertificateError::NotValidForName), TlsFailure::WrongHost),
            (Error::InvalidCertificate(CertificateError::Revoked), TlsFailure::Revoked),
            (Error::InvalidCertificate(CertificateError::BadSignature), TlsFailure::BadCertificate),
            (Error::AlertReceived(AlertDescription::CertificateRequired), TlsFailure::ClientCertificate),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), TlsFailure::Handshake),
        ] {
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, error.clone());
            let Some(Cause::Untrusted { failure: found, message }) = cause(&wrapped, Some("kafka")) else {
                panic!("{error}")
            };
            assert_eq!(found, failure);
            assert!(message.starts_with("TLS with kafka failed: "), "{message}");
        }
        assert_eq!(cause(&io::Error::from(io::ErrorKind::ConnectionReset), None), None);
    }
}
